//! Which values of two graphs are computed from the same numbers.

use std::collections::HashMap;

use super::graph::{Def, Graph, ValueId};

/// For each value of `graph`, by its number: whether `known` has a value of its name that is the same op, with the same settings, of
/// the same values, down to the same inputs, constants and stored bytes of weights.
///
/// A statistic of a value in one graph is one of the value in the other only then. Not bytes are compared but where they lie, so that
/// two copies of a weight count as two. A value that no entry needs is not the same.
pub fn same_values(known: &Graph, graph: &Graph) -> Vec<bool> {
    let by_name: HashMap<&str, ValueId> =
        known.values.iter().enumerate().map(|(i, value)| (&value.name[..], ValueId(i))).collect();
    let mut same = vec![false; graph.values.len()];
    // Arguments come before what is made of them.
    for id in graph.entries.iter().flat_map(|entry| graph.order(entry)) {
        let known_id = by_name.get(&graph.value(id).name[..]);
        same[id.0] = known_id.is_some_and(|known_id| is_same(known, *known_id, graph, id, &same));
    }
    same
}

fn is_same(known: &Graph, known_id: ValueId, graph: &Graph, id: ValueId, same: &[bool]) -> bool {
    let (a, b) = (known.value(known_id), graph.value(id));
    if a.ty != b.ty {
        return false;
    }
    match (&a.def, &b.def) {
        (Def::Input, Def::Input) => true,
        (Def::Const(a), Def::Const(b)) => a.to_bits() == b.to_bits(),
        (Def::Weight(a), Def::Weight(b)) => {
            let (a, b) = (known.weights.get(*a), graph.weights.get(*b));
            a.shape == b.shape && a.data.is_same(&b.data)
        }
        (Def::Op(a, of_a), Def::Op(b, of_b)) => {
            let is_same_argument =
                |(a, b): (&ValueId, &ValueId)| same[b.0] && known.value(*a).name == graph.value(*b).name;
            a == b && of_a.len() == of_b.len() && of_a.iter().zip(of_b).all(is_same_argument)
        }
        (Def::Input | Def::Const(_) | Def::Weight(_) | Def::Op(..), _) => false,
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

        // The same numbers at another place are taken for others.
        let mut copied = exact.clone();
        let id = copied.weights.find("first").expect("there");
        copied.weights.get_mut(id).data = WeightData::Stored { blob: Blob::memory(vec![0; 16]), dtype: FloatType::F32 };
        assert_eq!(names(&copied).len(), 4);
    }
}
