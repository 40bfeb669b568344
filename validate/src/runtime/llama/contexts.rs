//! One llama.cpp context a sequence, all over one model.
//!
//! A context holds one encoder output. Several sequences could share it under a mask, but then the numbers of each would
//! depend on the others, encoders would cost the square of all sources together, and ggml's threads would spin against
//! each other at every node. A context a sequence needs no mask, and runs on one thread beside the others.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED;
use rayon::ThreadPool;
use rayon::prelude::*;

use super::ffi;
use super::header::Part;

/// llama.cpp rounds up to it.
const SMALLEST_CONTEXT: usize = 256;

/// The library, started once a process with its log silenced.
fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        ffi::silence_log();
        LlamaBackend::init().expect("nothing else starts llama.cpp")
    })
}

/// Loads a file that [`super::header::check`] has passed.
pub(super) fn load(path: &Path) -> Result<LlamaModel, String> {
    let params = LlamaModelParams::default().with_n_gpu_layers(0);
    LlamaModel::load_from_file(backend(), path, &params).map_err(|e| explained(&e))
}

/// llama.cpp's own log says more than its return values.
fn explained(error: &dyn std::error::Error) -> String {
    match ffi::take_errors() {
        log if log.is_empty() => error.to_string(),
        log => log,
    }
}

/// Sequences side by side.
pub(super) struct Contexts<'m> {
    model: &'m LlamaModel,
    pool: ThreadPool,
    as_used: bool,
    part: Part,
    sequences: Vec<Sequence<'m>>,
    /// How many of them the batch has; the others wait for a larger one.
    rows: usize,
}

impl<'m> Contexts<'m> {
    pub(super) fn new(model: &'m LlamaModel, pool: ThreadPool, as_used: bool, part: Part) -> Contexts<'m> {
        Contexts { model, pool, as_used, part, sequences: Vec::new(), rows: 0 }
    }

    /// Encodes a batch. No source is empty, and every id is in the vocabulary.
    pub(super) fn encode(&mut self, sources: Vec<Vec<LlamaToken>>) -> Result<(), String> {
        self.rows = sources.len();
        if self.sequences.len() < self.rows {
            self.sequences.resize_with(self.rows, Sequence::default);
        }
        let threads = if self.as_used && self.rows == 1 { self.pool.current_num_threads() } else { 1 };
        let settings = Settings { as_used: self.as_used, threads, shows_encoder: self.part == Part::Encoder };
        for sequence in self.sequences.iter_mut().filter(|sequence| sequence.settings != settings) {
            *sequence = Sequence { settings, ..Sequence::default() };
        }
        let Contexts { model, pool, sequences, .. } = self;
        pool.install(|| sequences.par_iter_mut().zip(sources).try_for_each(|(s, source)| s.encode(model, source)))
    }

    /// What an encoder alone made of a batch: f32[rows, tokens, width] with the longest source's tokens, zeros behind the others',
    /// and the width.
    pub(super) fn encoded(&self) -> Result<(Vec<f32>, usize), String> {
        let width = self.model.n_embd() as usize; // at most 2^31
        let sequences = &self.sequences[..self.rows];
        let longest = sequences.iter().map(|sequence| sequence.source.len()).max().unwrap_or(0);
        let mut values = Vec::with_capacity(self.rows * longest * width);
        for (row, sequence) in sequences.iter().enumerate() {
            sequence.push_encoded(&mut values)?;
            values.resize((row + 1) * longest * width, 0.0);
        }
        Ok((values, width))
    }

    /// Feeds each sequence its tokens, as many as the others. Returns f32[rows, tokens, vocabulary].
    pub(super) fn decode(&mut self, tokens: Vec<Vec<LlamaToken>>) -> Result<Vec<f32>, String> {
        let Contexts { model, pool, sequences, rows, .. } = self;
        let logits: Result<Vec<Vec<f32>>, String> = pool.install(|| {
            sequences[..*rows].par_iter_mut().zip(tokens).map(|(s, tokens)| s.decode(model, &tokens)).collect()
        });
        Ok(logits?.concat())
    }
}

/// How contexts are made.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Settings {
    /// llama.cpp's own defaults, which round more: caches in f16, flash attention where it can.
    as_used: bool,
    /// Of one context.
    threads: usize,
    /// Whether what the encoder makes is kept where it can be read.
    shows_encoder: bool,
}

#[derive(Default)]
struct Sequence<'m> {
    settings: Settings,
    /// And how many tokens it can hold, in the encoder as in the cache.
    context: Option<(LlamaContext<'m>, usize)>,
    /// What the context's encoder output was made from; empty when it has none.
    source: Vec<LlamaToken>,
    /// Target tokens in the cache.
    fed: Vec<LlamaToken>,
}

impl<'m> Sequence<'m> {
    fn encode(&mut self, model: &'m LlamaModel, source: Vec<LlamaToken>) -> Result<(), String> {
        self.fed.clear();
        if let Some((context, _)) = &mut self.context {
            context.clear_kv_cache();
        }
        // The same source again: only the target starts anew. A clock would then see no encoder.
        match self.source == source && !self.settings.as_used {
            true => Ok(()),
            false => self.run_encoder(model, source),
        }
    }

    fn decode(&mut self, model: &'m LlamaModel, tokens: &[LlamaToken]) -> Result<Vec<f32>, String> {
        let needed = self.fed.len() + tokens.len();
        if self.context.as_ref().is_some_and(|(_, size)| needed > *size) {
            // The cache is full: a larger context starts from the beginning.
            let (source, fed) = (std::mem::take(&mut self.source), std::mem::take(&mut self.fed));
            self.context = Some(new_context(model, needed.max(source.len()), self.settings)?);
            self.run_encoder(model, source)?;
            if !fed.is_empty() {
                self.feed(&fed)?;
            }
        }
        self.feed(tokens)
    }

    fn push_encoded(&self, values: &mut Vec<f32>) -> Result<(), String> {
        let (context, _) = self.context.as_ref().ok_or("encoded before encode")?;
        for position in 0..self.source.len() as i32 {
            values.extend_from_slice(context.embeddings_ith(position).map_err(|e| explained(&e))?);
        }
        Ok(())
    }

    fn run_encoder(&mut self, model: &'m LlamaModel, source: Vec<LlamaToken>) -> Result<(), String> {
        self.source = Vec::new();
        let (context, _) = match &mut self.context {
            Some(context) if context.1 >= source.len() => context,
            // More source tokens than the context's batch is an abort.
            context => context.insert(new_context(model, source.len(), self.settings)?),
        };
        context.encode(&mut batch(0, &source)?).map_err(|e| explained(&e))?;
        self.source = source;
        Ok(())
    }

    fn feed(&mut self, tokens: &[LlamaToken]) -> Result<Vec<f32>, String> {
        let Some((context, _)) = &mut self.context else {
            return Err("decode before encode".to_owned());
        };
        context.decode(&mut batch(self.fed.len(), tokens)?).map_err(|e| explained(&e))?;
        self.fed.extend_from_slice(tokens);
        Ok((0..tokens.len() as i32).flat_map(|row| context.get_logits_ith(row)).copied().collect())
    }
}

/// The next tokens of a context's one sequence, each with an output.
fn batch(past: usize, tokens: &[LlamaToken]) -> Result<LlamaBatch<'static>, String> {
    let mut batch = LlamaBatch::new(tokens.len(), 1);
    for (position, token) in (past as i32..).zip(tokens) {
        batch.add(*token, position, &[0], true).map_err(|e| explained(&e))?;
    }
    Ok(batch)
}

/// A context for at least `tokens` tokens, and how many it can hold.
fn new_context(model: &LlamaModel, tokens: usize, settings: Settings) -> Result<(LlamaContext<'_>, usize), String> {
    // Making a context writes to the model (llama-cpp-2 names this unsound), so it is done by one thread at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let size = tokens.next_power_of_two().max(SMALLEST_CONTEXT);
    let n = u32::try_from(size).map_err(|_| format!("expected fewer tokens, found {tokens}"))?;
    let threads = i32::try_from(settings.threads.max(1)).unwrap_or(i32::MAX);
    let mut params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(n))
        .with_n_batch(n)
        .with_n_ubatch(n)
        .with_n_seq_max(1)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_embeddings(settings.shows_encoder)
        .with_pooling_type(LlamaPoolingType::None);
    if !settings.as_used {
        params = params
            .with_type_k(KvCacheType::F32)
            .with_type_v(KvCacheType::F32)
            .with_flash_attention_policy(LLAMA_FLASH_ATTN_TYPE_DISABLED);
    }
    let context = model.new_context(backend(), params).map_err(|e| explained(&e))?;
    Ok((context, size))
}
