//! Rules on graphs that feed each other.

use std::collections::BTreeMap;

use converters::export::npu::Host;
use converters::export::onnx::{Element, OnnxFile};

use super::found::{Found, Founds};
use super::subject::{Steps, Subject};

/// What an input or output of a file is for: `past.0.k`, and for files without npu.json their own names.
type Ports = BTreeMap<String, String>;

/// Which of a file's inputs and outputs belong together, by npu.json or by their names.
fn ports(model: &OnnxFile, host: Option<&Host>, is_input: bool) -> Ports {
    let file = model.file.file_name().unwrap_or_default().to_string_lossy();
    let places = host.iter().flat_map(|host| &host.buckets).flat_map(|bucket| [&bucket.encoder, &bucket.decoder]);
    let declared = if is_input { &model.inputs } else { &model.outputs };
    match places.into_iter().find(|place| place.file == file) {
        Some(place) => {
            let ports = if is_input { &place.inputs } else { &place.outputs };
            ports.iter().map(|port| (port.port.clone(), port.name.clone())).collect()
        }
        None => declared.iter().map(|port| (word(&port.name), port.name.clone())).collect(),
    }
}

/// One word for the names that belong together: `past_key_values.0.encoder.key` and `present.0.encoder.key`, `k_cache_in` and
/// `k_cache_out`.
fn word(name: &str) -> String {
    let name = name.strip_suffix("_in").or_else(|| name.strip_suffix("_out")).unwrap_or(name);
    let crosses = name.contains("cross") || name.contains(".encoder.");
    match crosses {
        true => name.replace("past_key_values", "present"),
        false => name.replace("past_key_values", "past").replace("present", "past"),
    }
}

/// S12: keys and values that a graph takes and returns.
pub fn past_and_present(subject: &Subject<'_>, host: Option<&Host>, founds: &mut Founds) {
    let (inputs, outputs) = (ports(subject.model, host, true), ports(subject.model, host, false));
    for (port, input) in inputs.iter().filter(|(port, _)| port.contains("past")) {
        let found = outputs.iter().find(|(other, _)| other.replace("present", "past") == **port);
        let Some((_, output)) = found else {
            founds.push(Found::of(format!("{input} is taken, but nothing of that name is returned")).tensor(input));
            continue;
        };
        let (taken, returned) = (shape(subject, input, true), shape(subject, output, false));
        if let (Some(taken), Some(returned)) = (&taken, &returned)
            && !grows(taken, returned)
        {
            let why = format!("{input} is {taken:?}, but {output} {returned:?}: neither equal nor one token");
            founds.push(Found::of(why).tensor(output));
        }
        compare(subject, input, true, subject, output, founds);
    }
}

/// Whether npu.json gives two graphs to sources of different lengths.
fn apart(encoder: &OnnxFile, decoder: &OnnxFile, host: Option<&Host>) -> bool {
    let bucket = |model: &OnnxFile| {
        let file = model.file.file_name().unwrap_or_default().to_string_lossy();
        let mut buckets = host.iter().flat_map(|host| &host.buckets);
        buckets.position(|bucket| bucket.encoder.file == file || bucket.decoder.file == file)
    };
    matches!((bucket(encoder), bucket(decoder)), (Some(one), Some(other)) if one != other)
}

/// S12: what a decoder takes and an encoder returns.
pub fn across<'s, 'a>(encoder: &'s Subject<'a>, decoder: &'s Subject<'a>, host: Option<&Host>, founds: &mut Founds) {
    let outputs = ports(encoder.model, host, false);
    let inputs = ports(decoder.model, host, true);
    let crosses = |port: &str| port.contains("cross") || port.contains(".encoder.");
    if apart(encoder.model, decoder.model, host)
        || !inputs.keys().any(|port| crosses(port) && outputs.contains_key(port))
        || inputs.keys().any(|port| port.contains("past") && outputs.contains_key(port))
    {
        return;
    }
    let of = encoder.model.file.file_name().unwrap_or_default().to_string_lossy();
    for (port, input) in inputs.iter().filter(|(port, _)| crosses(port)) {
        let Some(output) = outputs.get(port) else {
            founds.push(Found::of(format!("{input} is taken, but {of} does not return it")).tensor(input));
            continue;
        };
        let (taken, returned) = (shape(decoder, input, true), shape(encoder, output, false));
        if let (Some(taken), Some(returned)) = (&taken, &returned)
            && taken != returned
        {
            let why = format!("{input} is {taken:?}, but {output} of {of} {returned:?}");
            founds.push(Found::of(why).tensor(input));
        }
        compare(decoder, input, true, encoder, output, founds);
    }
}

fn shape(subject: &Subject<'_>, name: &str, is_input: bool) -> Option<Vec<usize>> {
    let declared = if is_input { &subject.model.inputs } else { &subject.model.outputs };
    let inferred = subject.types.shape(name).map(<[usize]>::to_vec);
    inferred.or_else(|| declared.iter().find(|port| port.name == name)?.fixed())
}

/// Equal, or of one token where the input has several.
fn grows(taken: &[usize], returned: &[usize]) -> bool {
    let differing: Vec<usize> = (0..taken.len().min(returned.len())).filter(|i| taken[*i] != returned[*i]).collect();
    taken.len() == returned.len() && (differing.is_empty() || differing.len() == 1 && returned[differing[0]] == 1)
}

fn compare(a: &Subject<'_>, input: &str, is_input: bool, b: &Subject<'_>, output: &str, founds: &mut Founds) {
    let element = |subject: &Subject<'_>, name: &str| {
        subject.types.element(name).map_or("?".to_owned(), |e: Element| e.to_string())
    };
    let (taken, returned) = (element(a, input), element(b, output));
    let (own, other) = (a.port(input, is_input), b.port(output, false));
    let why = match (own, other) {
        _ if taken != returned => format!("{input} is {taken}, but {output} {returned}"),
        (Some(own), Some(other)) if !own.same_as(other) => {
            format!("{input} is {}, but {output} {}", own.shown(), other.shown())
        }
        (own, other) if own.is_some() != other.is_some() => {
            let shown = |steps: Option<&Steps>| steps.map_or("float".to_owned(), Steps::shown);
            format!("{input} is {}, but {output} {}", shown(own), shown(other))
        }
        _ => return,
    };
    founds.push(Found::of(why).tensor(input));
}
