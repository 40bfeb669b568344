//! A GGUF artifact in llama.cpp, as a session.

use std::ops::Range;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use converters::Artifact;
use graph::ir::port::DECODER_IDS;
use graph::{Feeds, Tensor};
use llama_cpp_2::token::LlamaToken;
use rayon::ThreadPoolBuilder;

use super::contexts::{Contexts, load};
use super::ffi;
use super::header::{self, Part};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Options, Session};
use crate::runtime::names::LLAMA;
use report::Engine;
use report::figures::counted;

/// Tokens of a source or a target that are accepted: attention memory grows with their square.
const MOST_TOKENS: usize = 4096;

type Work = Box<dyn for<'m> FnOnce(&mut Contexts<'m>) + Send>;

/// A model and its contexts, which borrow it: both live on the stack of a thread that does what it is sent.
pub(super) struct Llama {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    vocabulary: usize,
    limit_tokens: usize,
    threads: usize,
    as_used: bool,
    part: Part,
    encoded: Option<Encoded>,
}

struct Encoded {
    rows: usize,
    fed: usize,
}

impl Llama {
    /// Opens the one GGUF file of an artifact. Errors: what is wrong with it, in our words or in llama.cpp's.
    pub(super) fn open(artifact: &Artifact, options: &Options) -> Result<Llama, String> {
        let (threads, as_used) = (options.threads.max(1), options.as_used);
        let path = header::file(artifact)?;
        let part = header::check(&path)?;
        let model = load(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let vocabulary = model.n_vocab() as usize;
        let limit_tokens = (model.n_ctx_train() as usize).min(MOST_TOKENS);
        let (work, inbox) = channel::<Work>();
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| e.to_string())?;
        let thread = thread::Builder::new().name(LLAMA.to_owned()).spawn(move || {
            let mut contexts = Contexts::new(&model, pool, as_used, part);
            inbox.into_iter().for_each(|work| work(&mut contexts));
        });
        let thread = thread.map_err(|e| e.to_string())?;
        let (work, thread) = (Some(work), Some(thread));
        Ok(Llama { work, thread, vocabulary, limit_tokens, threads, as_used, part, encoded: None })
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl for<'m> FnOnce(&mut Contexts<'m>) -> Result<T, String> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let (reply, answer) = channel();
        let work: Work = Box::new(move |contexts| {
            // Only a session that is gone does not listen.
            let _ = reply.send(work(contexts));
        });
        let sent = self.work.as_ref().is_some_and(|sender| sender.send(work).is_ok());
        let answer = if sent { answer.recv().ok() } else { None };
        answer.unwrap_or_else(|| Err("its thread has ended".to_owned())).map_err(|message| failed(&message))
    }

    /// The rows of i64[b, n].
    fn rows<'t>(&self, name: &str, ids: &'t Tensor) -> Result<std::slice::Chunks<'t, i64>, RuntimeError> {
        match (ids.shape(), ids.as_i64()) {
            ([b, n], Some(data)) if *b > 0 && *n > 0 => Ok(data.chunks(*n)),
            (shape, data) => {
                let dtype = if data.is_some() { "i64" } else { "f32" };
                Err(failed(&format!("{name}: expected i64[b, n] with b and n above 0, found {dtype}{shape:?}")))
            }
        }
    }

    fn token(&self, name: &str, row: usize, column: usize, id: i64) -> Result<LlamaToken, RuntimeError> {
        match i32::try_from(id) {
            Ok(token) if (0..self.vocabulary as i64).contains(&id) => Ok(LlamaToken(token)),
            _ => {
                let expected = format!("expected an id of 0 to {}", self.vocabulary - 1);
                Err(failed(&format!("{name}[{row}, {column}]: {expected}, found {id}")))
            }
        }
    }
}

/// Where a mask is not 0, if that is one range and not empty.
fn run(mask: &[i64]) -> Option<Range<usize>> {
    let start = mask.iter().position(|m| *m != 0)?;
    let end = mask.iter().rposition(|m| *m != 0)? + 1;
    mask[start..end].iter().all(|m| *m != 0).then_some(start..end)
}

fn failed(message: &str) -> RuntimeError {
    RuntimeError::Failed { runtime: LLAMA, message: message.to_owned() }
}

impl Session for Llama {
    fn engine(&self) -> Engine {
        let threads = counted(self.threads as u64, "thread");
        let settings = match self.as_used {
            true => format!("CPU, {threads}, for several sequences one each"),
            false => format!("CPU, f32 cache, no flash attention, {threads} with a sequence each"),
        };
        Engine { name: LLAMA.to_owned(), version: ffi::version(), settings }
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        self.encoded = None;
        let given = |name: &str| {
            let found: Vec<&str> = source.keys().map(String::as_str).collect();
            source.get(name).ok_or_else(|| failed(&format!("{name}: expected it, found {}", found.join(", "))))
        };
        let [input_ids, attention_mask] = [given("input_ids")?, given("attention_mask")?];
        if attention_mask.shape() != input_ids.shape() {
            let (expected, found) = (input_ids.shape(), attention_mask.shape());
            return Err(failed(&format!("attention_mask: expected i64{expected:?}, as input_ids, found {found:?}")));
        }
        let rows = self.rows("input_ids", input_ids)?.zip(self.rows("attention_mask", attention_mask)?);
        let mut sources = Vec::new();
        for (row, (ids, mask)) in rows.enumerate() {
            // Padding on either side changes no distance between tokens; llama.cpp refuses gaps.
            let kept = run(mask).ok_or_else(|| {
                failed(&format!("attention_mask[{row}]: expected one run of tokens between padding, found {mask:?}"))
            })?;
            if kept.len() > MOST_TOKENS {
                let found = kept.len();
                return Err(failed(&format!("input_ids[{row}]: expected at most {MOST_TOKENS} tokens, found {found}")));
            }
            sources.push(kept.map(|i| self.token("input_ids", row, i, ids[i])).collect::<Result<Vec<_>, _>>()?);
        }
        let rows = sources.len();
        self.ask(move |contexts| contexts.encode(sources))?;
        self.encoded = Some(Encoded { rows, fed: 0 });
        Ok(())
    }

    fn encoded(&mut self) -> Result<Option<Tensor>, RuntimeError> {
        if self.part == Part::Whole {
            return Ok(None);
        }
        let Some(Encoded { rows, .. }) = self.encoded else {
            return Err(failed("encoded before encode"));
        };
        let (values, width) = self.ask(move |contexts| contexts.encoded())?;
        Ok(Some(Tensor::f32([rows, values.len() / (rows * width), width], values)))
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        if self.part == Part::Encoder {
            return Err(failed("the file holds an encoder alone, which decodes nothing"));
        }
        let Some(Encoded { rows, fed }) = self.encoded else {
            return Err(failed("decode before encode"));
        };
        let ids = self.rows(DECODER_IDS, decoder_input_ids)?;
        let (found, tokens) = (ids.len(), decoder_input_ids.shape()[1]);
        if found != rows {
            return Err(failed(&format!("{DECODER_IDS}: expected {rows} sequences, as encoded, found {found}")));
        }
        if fed + tokens > self.limit_tokens {
            let (limit, found) = (self.limit_tokens, fed + tokens);
            return Err(failed(&format!("{DECODER_IDS}: expected at most {limit} tokens, found {found}")));
        }
        let mut targets = Vec::new();
        for (row, ids) in ids.enumerate() {
            let tokens = ids.iter().enumerate().map(|(i, id)| self.token(DECODER_IDS, row, i, *id));
            targets.push(tokens.collect::<Result<Vec<LlamaToken>, RuntimeError>>()?);
        }
        // Until it has succeeded, the sequences are not in step.
        self.encoded = None;
        let logits = self.ask(move |contexts| contexts.decode(targets))?;
        self.encoded = Some(Encoded { rows, fed: fed + tokens });
        Ok(Tensor::f32([rows, tokens, self.vocabulary], logits))
    }

    fn limit_tokens(&self) -> Option<usize> {
        Some(self.limit_tokens)
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        // Its end is the thread's signal to stop; C++ must not be freeing when the process ends.
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
