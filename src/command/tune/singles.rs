//! The float model's logits, for trials of one weight.

use graph::{Blob, FloatType, Graph, Scratch, Tensors};
use validate::metrics::Meter;

use crate::build::error::PipelineError;
use crate::build::observed::Observed;

/// The float model's logits on the calibration samples that judge, in a scratch file. Trials start in the middle of the whole pass, so
/// these are of the entry `full`.
pub struct Singles {
    logits: Vec<Blob>,
    width: usize,
}

impl Singles {
    /// Runs the float model on the first `count` samples of the calibration.
    pub fn new(graph: &Graph, observed: &Observed, count: usize) -> Result<Singles, PipelineError> {
        let scratch = Scratch::new().map_err(PipelineError::io(&tempfile::env::temp_dir()))?;
        let kept = std::sync::Mutex::new((0..count).map(|_| None).collect::<Vec<_>>());
        let keep = |sample: usize, outputs: &Tensors| {
            let logits = outputs["logits"].as_f32().expect("logits are floats");
            let mut bytes = vec![0; 4 * logits.len()];
            FloatType::F32.encode(logits, &mut bytes);
            let written = scratch.reserve(bytes.len() as u64).and_then(|room| {
                room.write_at(0, &bytes)?;
                Ok(room.into_blob())
            });
            let width = outputs["logits"].shape()[2];
            kept.lock().expect("no panic while holding the lock")[sample] = Some((written, width));
        };
        observed.run(&validate::runtime::reference::caching(graph), count, &keep)?;
        let kept = kept.into_inner().expect("no panic while holding the lock");
        let (mut logits, mut widths) = (Vec::new(), 0);
        for one in kept {
            let (blob, width) = one.expect("every sample was run");
            logits.push(blob.map_err(PipelineError::io(&tempfile::env::temp_dir()))?);
            widths = width;
        }
        Ok(Singles { logits, width: widths })
    }

    /// The sum of KL divergences over the positions of a sample, and how many there are.
    pub fn distance(&self, sample: usize, outputs: &Tensors) -> (f64, u64) {
        let found = outputs["logits"].as_f32().expect("logits are floats");
        let mut expected = vec![0.0; found.len()];
        let read = self.logits[sample].read().map(|bytes| FloatType::F32.decode(&bytes, &mut expected));
        let mut meter = Meter::default();
        meter.add(&expected, found, self.width);
        let distances = meter.distances();
        let kl = if read.is_ok() { distances.kl.unwrap_or(f64::INFINITY) } else { f64::INFINITY };
        (kl * distances.positions as f64, distances.positions)
    }
}
