//! Two graphs of one model in step: every value of one beside the value of the same name of the other.

use std::collections::HashMap;

use graph::eval::{Course, EvalError, Feeds, Halted, Interpreter};
use graph::{Def, Graph, Op, Tensor, ValueId};

/// The whole pass, which both graphs have.
const ENTRY: &str = "full";

/// Two graphs, and which values they share.
pub(super) struct Pair<'i, 'g> {
    expected: &'i Interpreter<'g>,
    found: &'i Interpreter<'g>,
    courses: [Course; 2],
    /// By value of `found`: the one of its name in `expected`.
    counterparts: HashMap<ValueId, ValueId>,
}

/// One value of the second graph when it has been computed.
pub(super) struct Step<'t> {
    /// Which.
    pub(super) id: ValueId,
    /// Its op.
    pub(super) op: &'t Op,
    /// What it read; absent for weights and constants.
    pub(super) args: &'t [Option<Tensor>],
    /// What it is in the first graph, if that has it in the same shape.
    pub(super) expected: Option<&'t Tensor>,
    /// What it is.
    pub(super) found: &'t Tensor,
}

/// What the values after one read in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carry {
    /// What the second graph computed.
    Found,
    /// What the first graph computed, so that its error ends here.
    Expected,
}

impl<'i, 'g> Pair<'i, 'g> {
    /// Errors: a graph has no whole pass.
    pub(super) fn new(expected: &'i Interpreter<'g>, found: &'i Interpreter<'g>) -> Result<Pair<'i, 'g>, EvalError> {
        let courses = [Course::new(expected.graph(), ENTRY)?, Course::new(found.graph(), ENTRY)?];
        let computed = |graph: &Graph, id: &ValueId| matches!(graph.value(*id).def, Def::Op(..));
        let named: HashMap<&str, ValueId> = courses[0]
            .order()
            .iter()
            .filter(|id| computed(expected.graph(), id))
            .map(|id| (expected.graph().value(*id).name.as_str(), *id))
            .collect();
        let pairs = courses[1].order().iter().filter(|id| computed(found.graph(), id));
        let counterparts =
            pairs.filter_map(|id| Some((*id, *named.get(found.graph().value(*id).name.as_str())?))).collect();
        Ok(Pair { expected, found, courses, counterparts })
    }

    /// The second graph.
    pub(super) fn graph(&self) -> &Graph {
        self.found.graph()
    }

    /// The values that the second graph returns.
    pub(super) fn outputs(&self) -> impl Iterator<Item = ValueId> {
        self.graph().entry(ENTRY).into_iter().flat_map(|entry| entry.outputs.iter().map(|port| port.value))
    }

    /// Computes both graphs, each in its order, and shows every value of the second, in that order.
    ///
    /// Memory holds what both have live, and values of the first that the second computes later. Errors: those of a call.
    pub(super) fn walk(&self, feeds: &Feeds, visit: &mut dyn FnMut(&Step) -> Carry) -> Result<(), EvalError> {
        let mut ahead = Ahead::new(self, feeds)?;
        let course = &self.courses[1];
        let mut call = self.found.begin(course, &taken(self.graph(), feeds))?;
        for (place, id) in course.order().iter().enumerate() {
            let args: Vec<Option<Tensor>> =
                self.graph().args(*id).iter().map(|arg| call.live.get(arg).cloned()).collect();
            let mut found = None;
            self.found.advance(course, &mut call, place + 1, &mut |_, tensor| found = Some(tensor.clone()))?;
            let (Some(found), Some(op)) = (found, self.graph().op(*id)) else { continue };
            let expected = match self.counterparts.get(id) {
                Some(counterpart) => Some(ahead.value(*counterpart)?),
                None => None,
            };
            let expected = expected.filter(|tensor| tensor.shape() == found.shape());
            let step = Step { id: *id, op, args: &args, expected: expected.as_ref(), found: &found };
            if let (Carry::Expected, Some(expected)) = (visit(&step), expected) {
                call.live.insert(*id, expected);
            }
        }
        Ok(())
    }
}

/// The first graph, computed as far as the second one asks.
struct Ahead<'p> {
    interpreter: &'p Interpreter<'p>,
    course: &'p Course,
    call: Halted,
    /// Values that nobody has asked for yet.
    waiting: HashMap<ValueId, Option<Tensor>>,
}

impl<'p> Ahead<'p> {
    fn new(pair: &'p Pair<'_, '_>, feeds: &Feeds) -> Result<Ahead<'p>, EvalError> {
        let (interpreter, course) = (pair.expected, &pair.courses[0]);
        let call = interpreter.begin(course, &taken(interpreter.graph(), feeds))?;
        let waiting = pair.counterparts.values().map(|id| (*id, None)).collect();
        Ok(Ahead { interpreter, course, call, waiting })
    }

    /// A value that is asked for once.
    fn value(&mut self, id: ValueId) -> Result<Tensor, EvalError> {
        loop {
            if let Some(Some(_)) = self.waiting.get(&id) {
                return Ok(self.waiting.remove(&id).flatten().expect("just seen"));
            }
            let waiting = &mut self.waiting;
            let mut keep = |id: ValueId, tensor: &Tensor| {
                if let Some(place) = waiting.get_mut(&id) {
                    *place = Some(tensor.clone());
                }
            };
            let next = self.call.next + 1;
            self.interpreter.advance(self.course, &mut self.call, next, &mut keep)?;
        }
    }
}

/// Those of the feeds that the whole pass takes.
fn taken(graph: &Graph, feeds: &Feeds) -> Feeds {
    let takes = |name: &str| graph.entry(ENTRY).is_some_and(|entry| entry.input(name).is_some());
    feeds.iter().filter(|(name, _)| takes(name)).map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
}
