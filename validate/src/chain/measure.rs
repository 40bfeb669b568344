//! Runs a graph or an engine over the evaluation data, and compares its logits with those of earlier runs.

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use graph::eval::Interpreter;
use graph::{Blob, Progress, Scratch};
use rayon::prelude::*;

use super::beside::Beside;
use super::error::ChainError;
use super::ties::Choice;
use crate::generate::{Generated, Greedy, decode};
use crate::runtime::reference::Reference;
use crate::runtime::{RuntimeError, Session};
use crate::task::{self, Batch, Data};
use metrics::{Clusters, Meter};

/// Most sequences side by side: enough that a weight is fetched for many tokens, few enough that all threads have work.
pub const BATCH_ROWS: usize = 64;
/// Most bytes of logits that one call may return: the rest of longer targets is left out.
const LOGIT_BYTES: usize = 64 << 20;
/// Samples that are also run alone, together and step by step.
pub(super) const PROBES: usize = 4;

/// How a batch is put to a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// A batch of the data: all target tokens in one call, then greedy decoding.
    Data,
    /// One sample without padding, all target tokens in one call.
    Alone,
    /// Samples of very different lengths in one padded batch, all target tokens in one call.
    Padded,
    /// The same batch, one token a call.
    Steps,
}

/// A batch and how it is put.
#[derive(Debug)]
pub struct Call {
    /// How.
    pub way: Way,
    /// What.
    pub batch: Batch,
    /// Target tokens of which logits are kept.
    tokens: usize,
    /// Which call of the plan for all engines it is, or is a part of.
    whole: Whole,
}

/// Where the rows of a call stand among those of the one that it is a part of.
#[derive(Debug)]
struct Whole {
    call: usize,
    /// Sequences of that call, in the order of this one.
    rows: Vec<usize>,
    /// Target tokens of all sequences of that call.
    target_tokens: Vec<usize>,
}

impl Whole {
    /// The row of logits of each of this call's rows that count, first positions first.
    fn places(&self, tokens: usize) -> Vec<u64> {
        let mut places = Vec::new();
        let mut before = 0;
        for position in 0..tokens {
            // By sequence: how many before it have logits at this position.
            let mut place = vec![None; self.target_tokens.len()];
            for (row, _) in self.target_tokens.iter().enumerate().filter(|(_, n)| position < **n) {
                place[row] = Some(before);
                before += 1;
            }
            places.extend(self.rows.iter().filter_map(|row| place[*row]));
        }
        places
    }
}

/// All calls that every graph and engine goes through.
#[derive(Debug)]
pub struct Plan {
    /// In the order in which they are made.
    pub calls: Vec<Call>,
    /// For the calls of the data.
    pub greedy: Greedy,
    /// Logits at a position.
    pub vocabulary: usize,
    /// Samples in all.
    pub samples: usize,
    /// Whether greedy decoding follows on each call of the data.
    pub generates: bool,
}

impl Plan {
    /// Batches the data, and picks the shortest, the longest and two inputs between as probes.
    ///
    /// Errors: samples that cannot stand in one batch.
    pub fn new(data: &Data, greedy: Greedy, vocabulary: usize) -> Result<Plan, ChainError> {
        let batches = Plan::batches(data, &greedy, vocabulary)?;
        let sorted: Vec<usize> = batches.iter().flat_map(|b| b.samples.iter().copied()).collect();
        let mut probes: Vec<usize> = (0..PROBES).map(|i| sorted[i * (sorted.len() - 1) / (PROBES - 1)]).collect();
        probes.dedup();
        let mut calls: Vec<(Way, Batch)> = batches.into_iter().map(|batch| (Way::Data, batch)).collect();
        let alone = probes.iter().map(|&sample| (Way::Alone, vec![sample]));
        for (way, which) in alone.chain([Way::Padded, Way::Steps].map(|way| (way, probes.clone()))) {
            let batch = Batch::new(data, &which, &greedy.prompt(), greedy.settings.pad_token_id);
            calls.push((way, batch.map_err(ChainError::Data)?));
        }
        Ok(Plan::of_calls(calls, data, greedy, vocabulary, true))
    }

    /// The calls of the data alone, the same as in the whole plan. `generates`: greedy decoding follows on each.
    ///
    /// Errors: samples that cannot stand in one batch.
    pub fn of_data(data: &Data, greedy: Greedy, vocabulary: usize, generates: bool) -> Result<Plan, ChainError> {
        let batches = Plan::batches(data, &greedy, vocabulary)?;
        let calls = batches.into_iter().map(|batch| (Way::Data, batch)).collect();
        Ok(Plan::of_calls(calls, data, greedy, vocabulary, generates))
    }

    fn batches(data: &Data, greedy: &Greedy, vocabulary: usize) -> Result<Vec<Batch>, ChainError> {
        let longest = data.samples.iter().map(|s| s.target_ids.len()).max().unwrap_or(0) + greedy.prompt().len();
        let rows = (LOGIT_BYTES / (4 * vocabulary.max(1) * longest)).clamp(1, BATCH_ROWS);
        task::batches(data, rows, &greedy.prompt(), greedy.settings.pad_token_id).map_err(ChainError::Data)
    }

    fn of_calls(calls: Vec<(Way, Batch)>, data: &Data, greedy: Greedy, vocabulary: usize, generates: bool) -> Plan {
        let call = |(call, (way, batch)): (usize, (Way, Batch))| {
            let affordable = LOGIT_BYTES / (4 * vocabulary.max(1) * batch.len().max(1));
            let tokens = batch.decoder_tokens().min(affordable.max(1));
            let whole = Whole { call, rows: (0..batch.len()).collect(), target_tokens: batch.target_tokens.clone() };
            Call { way, batch, tokens, whole }
        };
        let calls = calls.into_iter().enumerate().map(call).collect();
        Plan { calls, vocabulary, samples: data.samples.len(), greedy, generates }
    }

    /// The same with the first `samples` of the data, in batches of at most `rows`.
    ///
    /// Its runs compare with those of the whole plan.
    pub fn part(&self, samples: usize, rows: usize) -> Plan {
        let samples = samples.clamp(1, self.samples);
        let mut calls = Vec::new();
        for call in &self.calls {
            let all: Vec<usize> = (0..call.batch.len()).collect();
            let (kept, rows): (Vec<usize>, usize) = match call.way {
                Way::Data => (all.into_iter().filter(|row| call.batch.samples[*row] < samples).collect(), rows.max(1)),
                // Probes are few, and what they probe is the batch.
                Way::Alone | Way::Padded | Way::Steps => (all, call.batch.len().max(1)),
            };
            for kept in kept.chunks(rows) {
                let batch = call.batch.of(kept);
                let tokens = call.tokens.min(batch.decoder_tokens());
                let rows = kept.iter().map(|row| call.whole.rows[*row]).collect();
                let whole = Whole { rows, target_tokens: call.whole.target_tokens.clone(), ..call.whole };
                calls.push(Call { way: call.way, batch, tokens, whole });
            }
        }
        Plan { calls, samples, vocabulary: self.vocabulary, greedy: self.greedy.clone(), generates: self.generates }
    }

    /// The calls of a way and their places.
    pub fn of(&self, way: Way) -> impl Iterator<Item = (usize, &Call)> {
        self.calls.iter().enumerate().filter(move |(_, call)| call.way == way)
    }

    /// Target positions at which logits of the data are compared.
    pub fn positions(&self) -> u64 {
        self.of(Way::Data).map(|(_, call)| call.kept_rows(call.tokens) as u64).sum()
    }
}

impl Call {
    /// Target tokens that are fed.
    pub(super) fn tokens(&self, limit_tokens: Option<usize>) -> usize {
        self.tokens.min(limit_tokens.unwrap_or(usize::MAX))
    }

    /// The position and the sequence of each row of logits: all sequences' first positions, then all second ones, and so on.
    fn order(&self) -> impl Iterator<Item = (usize, usize)> {
        let targets = &self.batch.target_tokens;
        let longest = targets.iter().copied().max().unwrap_or(0);
        let at = move |position| (0..targets.len()).map(move |sequence| (position, sequence));
        (0..longest).flat_map(at).filter(|(position, sequence)| *position < targets[*sequence])
    }

    /// Rows of logits that count: those of real targets.
    fn kept_rows(&self, tokens: usize) -> usize {
        self.batch.target_tokens.iter().map(|&n| n.min(tokens)).sum()
    }
}

/// Logits and generations of one run.
#[derive(Debug, Default)]
pub struct Outputs {
    /// For each call of the plan, f32[rows, vocabulary]: all sequences' first positions, then all second ones, and so on,
    /// so that an engine with a shorter limit has a prefix. Empty when the run was not asked to keep them.
    logits: Vec<Blob>,
    /// By sample.
    pub generated: Vec<Generated>,
    /// By sample, of each token; empty as `logits`.
    pub(super) choices: Vec<Vec<Choice>>,
}

/// Distances of a run to an earlier one, by call of the plan.
#[derive(Debug)]
pub struct Distance {
    calls: Vec<OfCall>,
}

/// Distances of one call to the same of an earlier run.
#[derive(Clone, Debug)]
pub(super) struct OfCall {
    /// First positions and later ones.
    pub(super) places: [Meter; 2],
    /// By sequence of the batch.
    sequences: Vec<Meter>,
}

impl Distance {
    /// Over all calls of a way.
    pub fn of(&self, plan: &Plan, way: Way) -> Meter {
        self.merged(plan, way, |[first, later]| [first, later])
    }

    /// The data's sequences, each a cluster of positions that are alike.
    pub fn clusters(&self, plan: &Plan) -> Clusters {
        plan.of(Way::Data).flat_map(|(index, _)| &self.calls[index].sequences).collect()
    }

    /// The same at the first target position only, and at the later ones only.
    pub fn split(&self, plan: &Plan, way: Way) -> [Meter; 2] {
        [self.merged(plan, way, |[first, _]| [first, &EMPTY]), self.merged(plan, way, |[_, later]| [later, &EMPTY])]
    }

    fn merged<'s>(&'s self, plan: &Plan, way: Way, pick: impl Fn(&'s [Meter; 2]) -> [&'s Meter; 2]) -> Meter {
        let mut sum = Meter::default();
        for (index, _) in plan.of(way) {
            pick(&self.calls[index].places).into_iter().for_each(|meter| sum.merge(meter));
        }
        sum
    }
}

static EMPTY: Meter = Meter::ZERO;

/// A run and its distances to the earlier runs that it was compared with, in their order.
pub struct Measured {
    /// What came out.
    pub outputs: Outputs,
    /// How far it is from each.
    pub distances: Vec<Distance>,
}

/// Runs the plan in the interpreter, calls side by side, and keeps the logits.
pub fn graph(
    interpreter: &Interpreter,
    plan: &Plan,
    against: &[&Outputs],
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<Measured, ChainError> {
    let run = |calls: &[usize]| -> Result<Vec<Done>, ChainError> {
        let mut session = Reference::new(interpreter);
        calls.iter().map(|call| one_call(&mut session, plan, *call, against, Some(scratch), progress)).collect()
    };
    let calls: Vec<usize> = (0..plan.calls.len()).collect();
    // Calls of the same sources, which a session encodes once, are one task; tasks differ much in cost.
    let tasks: Vec<&[usize]> =
        calls.chunk_by(|a, b| plan.calls[*a].batch.source == plan.calls[*b].batch.source).collect();
    let done: Result<Vec<Vec<Done>>, ChainError> = tasks.into_par_iter().with_max_len(1).map(run).collect();
    Ok(gathered(plan, against.len(), done?.into_iter().flatten()))
}

/// Runs the plan in an engine, in each session call by call.
pub fn engine(
    session: &mut dyn Session,
    beside: &Beside<'_>,
    plan: &Plan,
    against: &[&Outputs],
    progress: &dyn Progress,
) -> Result<Measured, ChainError> {
    let next = AtomicUsize::new(0);
    let run = |session: &mut dyn Session| -> Result<Vec<(usize, Done)>, ChainError> {
        let mut done = Vec::new();
        loop {
            let call = next.fetch_add(1, Ordering::Relaxed);
            if call >= plan.calls.len() {
                return Ok(done);
            }
            let one = one_call(session, plan, call, against, None, progress);
            done.push((call, one.inspect_err(|_| next.store(plan.calls.len(), Ordering::Relaxed))?));
        }
    };
    let another = || (beside.open)().map_or(Ok(Vec::new()), |mut session| run(&mut *session));
    let all = thread::scope(|scope| {
        let others: Vec<_> = (0..beside.count).map(|_| scope.spawn(another)).collect();
        let first = run(session);
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(first).chain(others.collect::<Vec<_>>()).collect::<Result<Vec<_>, ChainError>>()
    })?;
    let mut done: Vec<(usize, Done)> = all.into_iter().flatten().collect();
    done.sort_by_key(|(call, _)| *call);
    Ok(gathered(plan, against.len(), done.into_iter().map(|(_, done)| done)))
}

/// Runs only the calls of the given ways, without generation.
pub fn probe(session: &mut dyn Session, plan: &Plan, ways: &[Way], against: &Outputs) -> Result<Distance, ChainError> {
    let nothing = OfCall { places: [Meter::ZERO; 2], sequences: Vec::new() };
    let mut calls = vec![nothing; plan.calls.len()];
    for (index, call) in plan.calls.iter().enumerate().filter(|(_, call)| ways.contains(&call.way)) {
        calls[index] = distance(session, plan, call, against)?;
    }
    Ok(Distance { calls })
}

/// How far the logits of one call are from those of an earlier run, at first positions and at later ones.
pub(super) fn distance(
    session: &mut dyn Session,
    plan: &Plan,
    call: &Call,
    against: &Outputs,
) -> Result<OfCall, ChainError> {
    let logits = rows(session, plan, call)?;
    compare(plan, call, against, &logits)
}

struct Done {
    logits: Option<Blob>,
    meters: Vec<OfCall>,
    generated: Vec<Generated>,
    choices: Vec<Vec<Choice>>,
}

fn one_call(
    session: &mut dyn Session,
    plan: &Plan,
    index: usize,
    against: &[&Outputs],
    keep: Option<&Scratch>,
    progress: &dyn Progress,
) -> Result<Done, ChainError> {
    let call = &plan.calls[index];
    let logits = rows(session, plan, call)?;
    let meters = against.iter().map(|earlier| compare(plan, call, earlier, &logits)).collect();
    let meters: Result<Vec<OfCall>, ChainError> = meters;
    let (mut generated, mut choices) = (Vec::new(), vec![Vec::new(); call.batch.len()]);
    if call.way == Way::Data && plan.generates {
        let mut seen = |row: usize, logits: &[f32], scores: &[f32]| {
            if keep.is_some() {
                choices[row].push(Choice::of(logits, scores));
            }
        };
        generated = plan.greedy.run_seen(session, &call.batch.source, &mut seen)?;
    }
    if call.way == Way::Data {
        progress.advance(call.batch.len() as u64);
    }
    Ok(Done { logits: keep.map(|scratch| kept(scratch, &logits)).transpose()?, meters: meters?, generated, choices })
}

fn gathered(plan: &Plan, against: usize, done: impl Iterator<Item = Done>) -> Measured {
    let mut outputs = Outputs {
        logits: Vec::new(),
        generated: vec![Generated::default(); plan.samples],
        choices: vec![Vec::new(); plan.samples],
    };
    let mut distances: Vec<Distance> = (0..against).map(|_| Distance { calls: Vec::new() }).collect();
    for (call, done) in plan.calls.iter().zip(done) {
        outputs.logits.extend(done.logits);
        for (distance, meters) in distances.iter_mut().zip(done.meters) {
            distance.calls.push(meters);
        }
        for (sample, (generated, choices)) in
            call.batch.samples.iter().zip(done.generated.into_iter().zip(done.choices))
        {
            (outputs.generated[*sample], outputs.choices[*sample]) = (generated, choices);
        }
    }
    Measured { outputs, distances }
}

/// The rows of logits that count, first positions first: f32[rows, vocabulary].
fn rows(session: &mut dyn Session, plan: &Plan, call: &Call) -> Result<Vec<f32>, ChainError> {
    let (batch, width) = (&call.batch, plan.vocabulary);
    let tokens = call.tokens(session.limit_tokens());
    let step = if call.way == Way::Steps { 1 } else { tokens };
    session.encode(&batch.source)?;
    let mut out = Vec::with_capacity(call.kept_rows(tokens) * width);
    for from in (0..tokens).step_by(step.max(1)) {
        let logits = decode(session, &batch.decoder_columns(from, from + step))?;
        let found = logits.shape()[2];
        if found != width {
            let message = format!("expected {width} logits a position, found {found}");
            return Err(RuntimeError::Failed { runtime: "session", message }.into());
        }
        let floats = logits.as_f32().expect("decode() checked the type");
        for position in 0..step {
            for (row, _) in batch.target_tokens.iter().enumerate().filter(|(_, n)| from + position < **n) {
                out.extend_from_slice(&floats[(row * step + position) * width..][..width]);
            }
        }
    }
    Ok(out)
}

fn compare(plan: &Plan, call: &Call, reference: &Outputs, found: &[f32]) -> Result<OfCall, ChainError> {
    let width = plan.vocabulary;
    let reference = &reference.logits[call.whole.call];
    let mut bytes = vec![0; found.len() * 4];
    if call.whole.rows.len() == call.whole.target_tokens.len() {
        reference.read_at(0, &mut bytes)?;
    } else {
        let row_len = 4 * width;
        for (row, place) in bytes.chunks_mut(row_len).zip(call.whole.places(call.tokens)) {
            reference.read_at(place * row_len as u64, row)?;
        }
    }
    let mut expected = vec![0.0; found.len()];
    graph::FloatType::F32.decode(&bytes, &mut expected);
    let mut sums = OfCall { places: [Meter::ZERO; 2], sequences: vec![Meter::ZERO; call.batch.len()] };
    let rows = Meter::rows(&expected, found, width);
    for (row, (position, sequence)) in rows.iter().zip(call.order()) {
        sums.places[usize::from(position > 0)].merge(row);
        sums.sequences[sequence].merge(row);
    }
    Ok(sums)
}

fn kept(scratch: &Scratch, logits: &[f32]) -> io::Result<Blob> {
    let mut bytes = vec![0; logits.len() * 4];
    graph::FloatType::F32.encode(logits, &mut bytes);
    let range = scratch.reserve(bytes.len() as u64)?;
    range.write_at(0, &bytes)?;
    Ok(range.into_blob())
}

/// Compares two calls of one run, such as the padded batch at once and step by step.
pub fn between(plan: &Plan, outputs: &Outputs, a: Way, b: Way) -> Result<Meter, ChainError> {
    let mut sum = Meter::default();
    for ((_, call), (j, _)) in plan.of(a).zip(plan.of(b)) {
        let bytes = outputs.logits[j].read()?;
        let mut floats = vec![0.0; bytes.len() / 4];
        graph::FloatType::F32.decode(&bytes, &mut floats);
        compare(plan, call, outputs, &floats)?.places.iter().for_each(|meter| sum.merge(meter));
    }
    Ok(sum)
}

/// Greedy outputs of the interpreter alone, for data without targets. By sample.
///
/// `rows`: sequences side by side; each holds keys and values of its own.
pub fn generate(
    rows: usize,
    interpreter: &Interpreter,
    data: &Data,
    greedy: &Greedy,
    progress: &dyn Progress,
) -> Result<Vec<Generated>, ChainError> {
    let batches =
        task::batches(data, rows, &greedy.prompt(), greedy.settings.pad_token_id).map_err(ChainError::Data)?;
    let run = |batch: &Batch| {
        let found = greedy.run(&mut Reference::new(interpreter), &batch.source);
        progress.advance(batch.len() as u64);
        found
    };
    let found: Result<Vec<Vec<Generated>>, RuntimeError> = batches.par_iter().with_max_len(1).map(run).collect();
    let mut by_sample = vec![Generated::default(); data.samples.len()];
    for (batch, generated) in batches.iter().zip(found?) {
        for (sample, generated) in batch.samples.iter().zip(generated) {
            by_sample[*sample] = generated;
        }
    }
    Ok(by_sample)
}
