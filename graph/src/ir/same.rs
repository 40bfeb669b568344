//! Which values of two graphs are computed from the same numbers.

use std::collections::HashMap;

use super::graph::{Def, Graph, ValueId};
use crate::weights::WeightId;

/// For each value of `graph`, by its number: whether `known` has a value of its name that is the same op, with the same settings, of
/// the same values, down to the same inputs, constants and stored bytes of weights, whatever a weight is called.
///
/// A statistic of a value in one graph is one of the value in the other only then. Not bytes are compared but where they lie, so that
/// two copies of a weight count as two. A value that no entry needs is not the same.
pub fn same_values(known: &Graph, graph: &Graph) -> Vec<bool> {
    let pairs = Pairs::new(known);
    let mut found: Vec<Option<ValueId>> = vec![None; graph.values.len()];
    // Arguments come before what is made of them.
    for id in graph.entries.iter().flat_map(|entry| graph.order(entry)) {
        found[id.0] = pairs.of(graph, id, &found);
    }
    found.iter().map(Option::is_some).collect()
}

/// Values of a graph by what others are found by.
struct Pairs<'g> {
    known: &'g Graph,
    by_name: HashMap<&'g str, ValueId>,
    weights: Vec<(ValueId, WeightId)>,
}

impl<'g> Pairs<'g> {
    fn new(known: &'g Graph) -> Pairs<'g> {
        let ids = || (0..known.values.len()).map(ValueId);
        let by_name = ids().map(|id| (&known.value(id).name[..], id)).collect();
        let weights = ids().filter_map(|id| Some((id, known.weight_of(id)?))).collect();
        Pairs { known, by_name, weights }
    }

    /// The value that holds what value `id` of `graph` does. `found`: those of its arguments.
    fn of(&self, graph: &Graph, id: ValueId, found: &[Option<ValueId>]) -> Option<ValueId> {
        let value = graph.value(id);
        if let Def::Weight(weight) = value.def {
            let weight = graph.weights.get(weight);
            let is_same = |id: WeightId| {
                let known = self.known.weights.get(id);
                known.shape == weight.shape && known.data.is_same(&weight.data)
            };
            return self.weights.iter().find(|(_, known)| is_same(*known)).map(|(id, _)| *id);
        }
        let known_id = *self.by_name.get(&value.name[..])?;
        let known = self.known.value(known_id);
        let is_same = match (&known.def, &value.def) {
            (Def::Input, Def::Input) => true,
            (Def::Const(a), Def::Const(b)) => a.to_bits() == b.to_bits(),
            (Def::Op(a, of_a), Def::Op(b, of_b)) => {
                a == b && of_a.iter().map(|arg| Some(*arg)).eq(of_b.iter().map(|arg| found[arg.0]))
            }
            (Def::Input | Def::Const(_) | Def::Weight(_) | Def::Op(..), _) => false,
        };
        (is_same && known.ty == value.ty).then_some(known_id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::build::Build;
    use crate::ir::ty::{BATCH, Dim, Type};
    use crate::weights::blob::Blob;
    use crate::weights::derived::Derive;
    use crate::weights::float::FloatType;
    use crate::weights::{Weight, WeightData};

    #[test]
    fn a_value_is_the_same_until_something_that_it_is_made_of_changes() {
        let b = Build::new();
        let weight = |name: &str| {
            let blob = Blob::memory(vec![0; 16]);
            let data = WeightData::Stored { blob, dtype: FloatType::F32 };
            b.weight(Weight { name: name.to_owned(), shape: vec![2, 2], data })
        };
        let x = b.input("x", Type::f32([Dim::from(BATCH), 2.into()]));
        let first = x.linear(weight("first"), None);
        let second = first.linear(weight("second"), None);
        let other = x * 2.0;
        b.entry("full", &[("x", x)], &[("y", second + other)], BTreeMap::new());
        let exact = b.finish().expect("fits");
        let names = |graph: &Graph| -> Vec<String> {
            let same = same_values(&exact, graph);
            let others = graph.values.iter().zip(same).filter(|(_, same)| !same);
            others.map(|(value, _)| value.name.clone()).collect()
        };
        assert_eq!(names(&exact.clone()), Vec::<String>::new());

        let mut edited = exact.clone();
        let id = edited.weights.find("second").expect("there");
        edited.weights.get_mut(id).derive(Derive::MulScalar(0.5));
        let found = names(&edited);
        assert!(found.contains(&"second".to_owned()) && !found.contains(&"first".to_owned()), "{found:?}");
        assert_eq!(found.len(), 3, "the weight, its product and the sum: {found:?}");

        // Another name of the same numbers changes nothing.
        let mut renamed = exact.clone();
        let id = renamed.weights.find("first").expect("there");
        renamed.weights.get_mut(id).name = "another".to_owned();
        renamed
            .values
            .iter_mut()
            .filter(|value| value.name == "first")
            .for_each(|value| value.name = "another".to_owned());
        assert_eq!(names(&renamed), Vec::<String>::new());

        // The same numbers at another place are taken for others.
        let mut copied = exact.clone();
        let id = copied.weights.find("first").expect("there");
        copied.weights.get_mut(id).data = WeightData::Stored { blob: Blob::memory(vec![0; 16]), dtype: FloatType::F32 };
        assert_eq!(names(&copied).len(), 4);
    }
}
