//! Where consumers look for the graphs and their weights: one table, which the exporter writes by and readers find by.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use graph::{FloatType, Graph, Quantized, WeightData};

use super::options::Consumer;

/// The file of the weights of all graphs that share one.
pub const DATA_FILE: &str = "model.onnx_data";

/// The entry that is made of two.
pub(super) const MERGED: &str = "merged";

/// The entry of models that see and read, which others lack.
pub(super) const SIGHT: &str = "image_encoder";

/// The entry that looks the tokens of such a model up, for transformers.js.
pub(super) const LOOKUP: &str = "embed_tokens";

/// The graphs' files without suffix and extension, by entry.
const GRAPHS: [(&str, &str); 6] = [
    (SIGHT, "vision_encoder"),
    (LOOKUP, "embed_tokens"),
    ("encoder", "encoder_model"),
    ("decoder", "decoder_model"),
    ("decoder_with_past", "decoder_with_past_model"),
    (MERGED, "decoder_model_merged"),
];

/// Those that transformers.js opens.
const ITS_ENTRIES: [&str; 4] = [SIGHT, LOOKUP, "encoder", MERGED];
/// Below the folder of config.json, where transformers.js looks unless `subfolder` says otherwise.
const ITS_FOLDER: &str = "onnx";
/// Its words for what weights are stored in, and what they append to a file's name (its src/utils/dtypes.js).
const ITS_DTYPES: [(&str, &str); 4] = [("fp32", ""), ("fp16", "_fp16"), ("q8", "_quantized"), ("q4", "_q4")];

/// Words of `model_type` whose fixtures transformers.js was seen to run.
pub const TRANSFORMERS_JS: [&str; 10] = [
    "t5",
    "mt5",
    "bart",
    "mbart",
    "blenderbot-small",
    "marian",
    "m2m_100",
    "whisper",
    "vision-encoder-decoder",
    "florence2",
];

/// The decoders of images whose caches it knows: of another it feeds none, or some of other names (`getNormalizedConfig` of its
/// src/configs.js).
pub(super) const ITS_DECODERS: [&str; 2] = ["trocr", "mbart"];

/// How the files of a folder are named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Names {
    consumer: Consumer,
    suffix: &'static str,
    /// Whether there is a graph of [`SIGHT`].
    sees: bool,
}

const OPTIMUM: Names = Names { consumer: Consumer::Optimum, suffix: "", sees: false };

impl Names {
    /// What the files are called that a consumer finds without being told.
    pub(super) fn of(consumer: Consumer, graph: &Graph) -> Names {
        let sees = graph.entry(SIGHT).is_some();
        match consumer {
            Consumer::Optimum => Names { sees, ..OPTIMUM },
            Consumer::TransformersJs => Names { consumer, suffix: its_dtype(graph).1, sees },
        }
    }

    /// All that a folder may have.
    fn known() -> impl Iterator<Item = Names> {
        let its =
            ITS_DTYPES.into_iter().map(|(_, suffix)| Names { consumer: Consumer::TransformersJs, suffix, sees: false });
        std::iter::once(OPTIMUM).chain(its)
    }

    /// The graphs' folder below the artifact's.
    pub(super) fn folder(self) -> &'static str {
        match self.consumer {
            Consumer::Optimum => "",
            Consumer::TransformersJs => ITS_FOLDER,
        }
    }

    /// The graphs to write, by entry, with their files.
    pub(super) fn graphs(self) -> impl Iterator<Item = (&'static str, String)> {
        let is_wanted = move |entry: &str| match self.consumer {
            _ if [SIGHT, LOOKUP].contains(&entry) && !self.sees => false,
            Consumer::Optimum => entry != LOOKUP,
            Consumer::TransformersJs => ITS_ENTRIES.contains(&entry),
        };
        let wanted = GRAPHS.into_iter().filter(move |(entry, _)| is_wanted(entry));
        wanted.map(move |(entry, stem)| (entry, self.file(stem)))
    }

    fn file(self, stem: &str) -> String {
        format!("{stem}{}.onnx", self.suffix)
    }

    /// The file with the weights of a graph that do not lie in it. A browser finds one by the name of the graph alone, so
    /// graphs cannot share one there.
    pub(super) fn data(self, graph: &str) -> String {
        match self.consumer {
            Consumer::Optimum => DATA_FILE.to_owned(),
            Consumer::TransformersJs => format!("{graph}_data"),
        }
    }
}

/// The graphs of an artifact's folder, whoever it is laid out for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    dir: PathBuf,
    names: Names,
}

impl Folder {
    /// By the first encoder that it has; one without is taken for Optimum's.
    pub fn find(dir: &Path) -> Folder {
        let at = |names: Names| Folder { dir: dir.to_owned(), names };
        let found = Names::known().map(at).find(|folder| folder.encoder().exists()).unwrap_or(at(OPTIMUM));
        let sees = found.path(SIGHT).exists();
        Folder { names: Names { sees, ..found.names }, ..found }
    }

    fn path(&self, entry: &str) -> PathBuf {
        let (_, stem) = GRAPHS.into_iter().find(|(name, _)| *name == entry).expect("one of the entries");
        self.dir.join(self.names.folder()).join(self.names.file(stem))
    }

    /// The encoder's file.
    pub fn encoder(&self) -> PathBuf {
        self.path("encoder")
    }

    /// The file of what sees, before the encoder of a model that also reads.
    pub fn sight(&self) -> Option<PathBuf> {
        self.names.sees.then(|| self.path(SIGHT))
    }

    /// The file of what looks tokens up, where the encoder and the decoder take embeddings.
    pub fn lookup(&self) -> Option<PathBuf> {
        (self.names.sees && self.names.consumer == Consumer::TransformersJs).then(|| self.path(LOOKUP))
    }

    /// The files of the first step and of those after it.
    pub fn pair(&self) -> [PathBuf; 2] {
        ["decoder", "decoder_with_past"].map(|entry| self.path(entry))
    }

    /// The file of all steps.
    pub fn merged(&self) -> PathBuf {
        self.path(MERGED)
    }

    /// The file of the steps after the first.
    pub fn step(&self) -> PathBuf {
        let [_, later] = self.pair();
        if self.is_merged_alone() { self.merged() } else { later }
    }

    /// Whether one file decodes all steps and nothing else does.
    pub fn is_merged_alone(&self) -> bool {
        self.merged().exists() && !self.pair()[1].exists()
    }

    /// The files of all graphs that a folder of this kind has.
    pub fn graphs(&self) -> impl Iterator<Item = PathBuf> {
        let dir = self.dir.join(self.names.folder());
        self.names.graphs().map(move |(_, file)| dir.join(file))
    }
}

/// transformers.js' word for the weights of a graph, and its suffix.
pub(super) fn its_dtype(graph: &Graph) -> (&'static str, &'static str) {
    let bits: BTreeSet<u8> = graph.weights.iter().map(|(_, weight)| bits(&weight.data)).collect();
    let word = match bits {
        bits if bits.iter().any(|bits| *bits <= 4) => "q4",
        bits if bits.contains(&8) => "q8",
        bits if bits.contains(&16) => "fp16",
        _ => "fp32",
    };
    ITS_DTYPES.into_iter().find(|(name, _)| *name == word).expect("one of its words")
}

/// Bits of a weight's codes, or of its floats.
fn bits(data: &WeightData) -> u8 {
    match data {
        WeightData::Quantized(Quantized::Affine(affine)) => affine.bits,
        WeightData::Stored { dtype: FloatType::F16, .. } => 16,
        // Others are f32 in ONNX.
        _ => 32,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_found_by_its_encoder_whatever_its_suffix_and_has_the_graphs_of_its_kind() {
        for (below, encoder, merged, count) in [
            ("", "encoder_model.onnx", "decoder_model_merged.onnx", 4),
            ("onnx", "encoder_model.onnx", "decoder_model_merged.onnx", 2),
            ("onnx", "encoder_model_quantized.onnx", "decoder_model_merged_quantized.onnx", 2),
            ("onnx", "encoder_model_q4.onnx", "decoder_model_merged_q4.onnx", 2),
        ] {
            let home = tempfile::tempdir().expect("temporary folder");
            let at = home.path().join(below);
            fs::create_dir_all(&at).expect("made");
            for name in [encoder, merged] {
                fs::write(at.join(name), "").expect("written");
            }
            let folder = Folder::find(home.path());
            assert_eq!((folder.encoder(), folder.merged()), (at.join(encoder), at.join(merged)));
            assert_eq!(folder.graphs().count(), count, "{below} {encoder}");
            assert!(folder.is_merged_alone());
            fs::write(&folder.pair()[1], "").expect("written");
            assert!(!folder.is_merged_alone(), "{below} {encoder}");
        }
    }

    #[test]
    fn a_folder_without_an_encoder_is_named_as_optimum_would() {
        let home = tempfile::tempdir().expect("temporary folder");
        assert_eq!(Folder::find(home.path()).encoder(), home.path().join("encoder_model.onnx"));
    }
}
