//! The README.md of an artifact's folder, in the form of the Hub's model cards, so that the folder can be uploaded as it is.
//!
//! It follows from the manifest, what the checkpoint says of itself, and the report; only measured figures change from run to run.

mod front;
mod source;

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use converters::export::gguf::LLAMA_CPP;
use converters::export::whisper_cpp::FILE as WHISPER_BIN;
use converters::import::family;
use frontend::Kind;
use validate::report::escape::markdown::{code, escaped};
use validate::report::figures::{ABSENT, figure, median, of_metric, points, size};
use validate::report::{ArtifactReport, DataReport, Metric, Report, Verdict};

use crate::build::manifest::Manifest;
use front::{front, has_codes};
pub use source::{READ, Source};

pub use crate::names::CARD as FILE;

/// What a card is about.
pub struct Card<'a> {
    /// The artifact.
    pub manifest: &'a Manifest,
    /// The name of the checkpoint's folder.
    pub model: &'a str,
    /// What the checkpoint says of itself.
    pub source: &'a Source,
    /// What was found of it; none when nobody looked.
    pub report: Option<&'a Report>,
}

impl Card<'_> {
    /// The text of the file.
    pub fn page(&self) -> String {
        let mut out = front(self.manifest, self.source);
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn section(&self) -> Option<&ArtifactReport> {
        self.report?.artifacts.iter().find(|one| one.name == self.manifest.name)
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let Manifest { format, trefoil, model, .. } = self.manifest;
        let name = escaped(self.model);
        writeln!(out, "\n# {name}, {}\n", title(format))?;
        let of = self
            .source
            .hub_name
            .as_ref()
            .map_or(name.clone(), |hub| format!("[{0}](https://huggingface.co/{0})", escaped(hub)));
        let of = model.hub.as_ref().map_or(of.clone(), |hub| format!("{of} at commit {}", code(&hub.commit)));
        writeln!(
            out,
            "The encoder-decoder {of} ({}) as {}, made by trefoil {trefoil}: the weights are the checkpoint's, stored as below, and the \
             graph is the same.\n",
            escaped(&model.model_type),
            title(format)
        )?;
        self.write_license(out)?;
        self.write_weights(out)?;
        self.write_measured(out)?;
        self.write_use(out)?;
        self.write_files(out)?;
        self.write_origin(out)
    }

    fn write_license(&self, out: &mut String) -> fmt::Result {
        match (&self.source.license, &self.source.license_file) {
            (Some(license), _) => writeln!(out, "The license is the checkpoint's: {}.\n", code(license)),
            (None, Some(file)) => {
                writeln!(out, "The license is the checkpoint's, in the file {} beside its weights.\n", code(file))
            }
            (None, None) => writeln!(out, "The checkpoint's folder names no license.\n"),
        }
    }

    fn write_weights(&self, out: &mut String) -> fmt::Result {
        let mut types: BTreeMap<(&str, &str), [u64; 3]> = BTreeMap::new();
        for tensor in &self.manifest.tensors {
            let method = if tensor.scheme.is_quantized() { tensor.method.name() } else { "" };
            let sums = types.entry((&tensor.stored, method)).or_default();
            let weights = tensor.shape.iter().product::<usize>() as u64;
            [1, weights, tensor.bytes].iter().zip(sums).for_each(|(more, sum)| *sum += more);
        }
        let [_, weights, bytes] = types.values().fold([0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
        let bits = 8.0 * bytes as f64 / weights.max(1) as f64;
        writeln!(out, "## Quantization\n\n{bits:.2} bits a weight, scales included.\n")?;
        writeln!(out, "| type | codes chosen by | tensors | size | bits |\n| --- | --- | ---: | ---: | ---: |")?;
        for ((stored, method), [tensors, weights, bytes]) in types {
            let bits = 8.0 * bytes as f64 / weights.max(1) as f64;
            writeln!(out, "| {} | {method} | {tensors} | {} | {bits:.2} |", escaped(stored), size(bytes))?;
        }
        for note in &self.manifest.substitutions {
            let about = if note.about.is_empty() { String::new() } else { format!("{}: ", code(&note.about)) };
            write!(out, "\n- {about}{}", escaped(&note.text))?;
        }
        writeln!(out, "{}", if self.manifest.substitutions.is_empty() { "" } else { "\n" })
    }

    fn write_measured(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "## Measured\n")?;
        let verdict = self.manifest.verdict;
        let Some((section, data)) = self.section().zip(self.report.map(|report| &report.data)) else {
            return writeln!(out, "Not validated.\n");
        };
        let metrics: String = data.metrics.iter().map(|metric| format!("{} | ", metric.label())).collect();
        writeln!(out, "| engine | {metrics}KL | top-1 | first token, ms | tokens/s |")?;
        writeln!(out, "| --- |{} ---: | ---: | ---: | ---: |", " ---: |".repeat(data.metrics.len()))?;
        section.runs.iter().try_for_each(|run| writeln!(out, "{}", line(data, section, run)))?;
        let float = self.report.and_then(|report| report.model.score.as_ref());
        let points: Vec<String> =
            data.metrics.iter().filter_map(|metric| Some(points(of_metric(float, *metric)?))).collect();
        let float =
            if points.is_empty() { String::new() } else { format!("; the float model has {}", points.join(", ")) };
        let (samples, source) = (data.samples, code(&data.source));
        writeln!(
            out,
            "\n{samples} samples of {source}{float}. KL and top-1 are against the float model. Verdict: {verdict}.\n"
        )?;
        match verdict {
            Verdict::Failed => writeln!(out, "**It failed a check; the report says which.**\n"),
            Verdict::Passed | Verdict::NotValidated => Ok(()),
        }
    }

    fn write_use(&self, out: &mut String) -> fmt::Result {
        let model_type = &self.manifest.model.model_type;
        let Classes { input, transformers, browser, optimum, ctranslate2 } =
            Classes::of(family(model_type).map_or(Kind::Text, |family| family.front_end()));
        writeln!(out, "## How to run it\n\n```sh\ntrefoil run FOLDER \"{input}\"\n```\n")?;
        let python = |package: &str, class: &str| {
            format!("```python\nfrom {package} import {class}\n\nmodel = {class}.from_pretrained(\"FOLDER\")\n```\n")
        };
        match self.manifest.format.as_str() {
            "onnx" if self.manifest.files.iter().any(|file| file.path.starts_with("onnx/")) => {
                writeln!(
                    out,
                    "In transformers.js, in Node and in browsers, where FOLDER is a path below `env.localModelPath`:\n\n```js\n\
                     import {{ {browser} }} from \"@huggingface/transformers\";\n\nconst model = await {browser}.from_pretrained(\"FOLDER\");\n```\n"
                )
            }
            "onnx" => match optimum {
                Some(optimum) => {
                    writeln!(out, "In onnxruntime through Optimum:\n\n{}", python("optimum.onnxruntime", optimum))
                }
                None => writeln!(
                    out,
                    "In onnxruntime: `vision_encoder.onnx` makes of an image what `encoder_model.onnx` takes as `image_features`, beside \
                     the prompt; the decoder is fed as Optimum feeds it.\n"
                ),
            },
            "safetensors" => {
                let package = if has_codes(self.manifest) { ", with the package compressed-tensors" } else { "" };
                writeln!(out, "In transformers{package}:\n\n{}", python("transformers", transformers))
            }
            "ctranslate2" => {
                writeln!(
                    out,
                    "In CTranslate2:\n\n```python\nimport ctranslate2\n\nmodel = ctranslate2.{ctranslate2}(\"FOLDER\")\n```\n"
                )
            }
            "whisper.cpp" => writeln!(
                out,
                "In whisper.cpp, with a clip of 16 000 samples a second:\n\n```sh\nwhisper-cli -m FOLDER/{WHISPER_BIN} -f CLIP.wav\n```\n"
            ),
            "gguf" if LLAMA_CPP.contains(&model_type.as_str()) => {
                let file = self.manifest.files.iter().find(|file| file.path.ends_with(".gguf"));
                let file = file.map_or("model.gguf", |file| file.path.as_str());
                let command = match holds_a_decoder(self.manifest) {
                    true => format!("llama-cli -m FOLDER/{file} -p \"{input}\""),
                    false => format!("llama-embedding -m FOLDER/{file} --pooling none -p \"{input}\""),
                };
                writeln!(out, "In llama.cpp:\n\n```sh\n{command}\n```\n")
            }
            _ => Ok(()),
        }
    }

    fn write_files(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "## Files\n\n| file | size | sha256 |\n| --- | ---: | --- |")?;
        for file in &self.manifest.files {
            writeln!(out, "| {} | {} | {} |", code(&file.path), size(file.bytes), code(&file.sha256))?;
        }
        writeln!(out)
    }

    fn write_origin(&self, out: &mut String) -> fmt::Result {
        let recipe = &self.manifest.recipe;
        let file = code(&recipe.file);
        writeln!(
            out,
            "## How it was made\n\n`trefoil convert` with {file}; `trefoil verify FOLDER` says whether these are the files that it made:\n"
        )?;
        let longest = recipe.text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        writeln!(out, "{fence}yaml\n{}\n{fence}\n", recipe.text.trim_end())?;
        writeln!(out, "| read of the checkpoint | size | sha256 |\n| --- | ---: | --- |")?;
        for input in &self.manifest.model.inputs {
            writeln!(out, "| {} | {} | {} |", code(&input.path), size(input.bytes), code(&input.sha256))?;
        }
        Ok(())
    }
}

/// Of a T5; a GGUF may hold its encoder alone.
fn holds_a_decoder(manifest: &Manifest) -> bool {
    manifest.tensors.iter().any(|tensor| tensor.name.starts_with("decoder.block."))
}

/// What people call who run a model in an engine, by what it reads.
struct Classes {
    /// Of `trefoil run`.
    input: &'static str,
    transformers: &'static str,
    /// Of transformers.js.
    browser: &'static str,
    /// None opens its graphs where there is one more than Optimum knows.
    optimum: Option<&'static str>,
    ctranslate2: &'static str,
}

impl Classes {
    fn of(reads: Kind) -> Classes {
        match reads {
            Kind::Text => Classes {
                input: "some text",
                transformers: "AutoModelForSeq2SeqLM",
                browser: "AutoModelForSeq2SeqLM",
                optimum: Some("ORTModelForSeq2SeqLM"),
                ctranslate2: "Translator",
            },
            Kind::Audio(_) => Classes {
                input: "clip.wav",
                transformers: "AutoModelForSpeechSeq2Seq",
                browser: "AutoModelForSpeechSeq2Seq",
                optimum: Some("ORTModelForSpeechSeq2Seq"),
                ctranslate2: "models.Whisper",
            },
            Kind::AskedImage => Classes {
                input: "page.png\" --prompt \"<OCR>",
                transformers: "AutoModelForImageTextToText",
                browser: "AutoModelForImageTextToText",
                optimum: None,
                ctranslate2: "Translator",
            },
            Kind::Image => Classes {
                input: "line.png",
                transformers: "VisionEncoderDecoderModel",
                browser: "AutoModelForVision2Seq",
                optimum: Some("ORTModelForVision2Seq"),
                ctranslate2: "Translator",
            },
        }
    }
}

fn title(format: &str) -> String {
    match format {
        "onnx" => "ONNX".to_owned(),
        "gguf" => "GGUF".to_owned(),
        "npu" => "ONNX for NPUs".to_owned(),
        "ctranslate2" => "CTranslate2".to_owned(),
        other => other.to_owned(),
    }
}

/// One engine.
fn line(data: &DataReport, section: &ArtifactReport, run: &validate::report::Run) -> String {
    let speed = section.speed.iter().find(|speed| speed.engine.name == run.engine.name);
    let cell = |metric| of_metric(run.score.as_ref(), metric).map_or(String::new(), points) + " | ";
    let metrics: String = data.metrics.iter().map(|metric| cell(*metric)).collect();
    let distances = run.to_float.as_ref();
    let kl = distances.map_or(ABSENT.to_owned(), |d| figure(Metric::Kl, d.kl));
    let top1 = distances.map_or(ABSENT.to_owned(), |d| figure(Metric::Top1, d.top1));
    let first = speed.map_or(String::new(), |speed| median(&speed.first_token_ms));
    let rate = speed.and_then(|speed| speed.tokens_per_s.as_ref().map(median)).unwrap_or_default();
    let engine = escaped(&format!("{} {}", run.engine.name, run.engine.version));
    format!("| {} | {metrics}{kl} | {top1} | {first} | {rate} |", engine.trim_end())
}
