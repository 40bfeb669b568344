//! A layout in the making: variables by name, each of rows of weights.

use std::collections::{BTreeMap, BTreeSet};

use graph::{FloatType, Weight, WeightId};

use super::file::{Dtype, NAME};
use super::part::{self, Content, Part, Variable, is_codes};
use crate::error::ExportError;
use crate::export::gguf::names::gguf_name;
use crate::model::Model;

/// Longest variable, for the file counts its bytes in a u32.
const VARIABLE_BYTES: usize = u32::MAX as usize;

/// What the file holds of a model.
pub(super) struct Layout<'a> {
    /// Name and revision of the spec.
    pub spec: (&'static str, u32),
    /// By name.
    pub variables: Vec<Variable<'a>>,
    /// By alias; the variable's name is the second.
    pub aliases: Vec<(String, String)>,
}

/// A layout in the making.
pub(super) struct Builder<'a> {
    model: &'a Model,
    /// Weights by what GGUF calls their tensors, which is the same for all families.
    named: BTreeMap<String, WeightId>,
    /// Those that have a place.
    placed: BTreeSet<WeightId>,
    /// Rows of tables of tokens, where the last one is left out.
    pub(super) tokens: Option<usize>,
    scalars: Vec<Variable<'a>>,
    /// What may have codes: the name without `/weight`, the shape and the rows.
    matrices: Vec<(String, Vec<usize>, Vec<Part<'a>>)>,
    /// What is floats always.
    floats: Vec<(String, Vec<usize>, Vec<Part<'a>>)>,
    pub(super) aliases: Vec<(String, String)>,
    faults: Vec<String>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(model: &'a Model) -> Builder<'a> {
        let (mut named, mut faults) = (BTreeMap::new(), Vec::new());
        for (id, weight) in model.graph.weights.iter() {
            match gguf_name(&weight.name, model.architecture.gguf_names()) {
                None => faults.push(format!("{} has no name that the families share", weight.name)),
                Some(name) => {
                    if let Some(other) = named.insert(name.clone(), id) {
                        let other = &model.graph.weights.get(other).name;
                        faults.push(format!("{other} and {} are both {name}", weight.name));
                    }
                }
            }
        }
        let (scalars, matrices, floats, aliases) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Builder { model, named, placed: BTreeSet::new(), tokens: None, scalars, matrices, floats, aliases, faults }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// The weight of a name, which has a place now.
    fn find(&mut self, name: &str) -> Option<(WeightId, &'a Weight)> {
        let id = *self.named.get(name)?;
        self.placed.insert(id);
        Some((id, self.model.graph.weights.get(id)))
    }

    /// The same of a weight that has to be there.
    pub(super) fn need(&mut self, name: &str) -> Option<(WeightId, &'a Weight)> {
        let found = self.find(name);
        if found.is_none() {
            self.faults.push(format!("the model has no {name}"));
        }
        found
    }

    pub(super) fn scalar(&mut self, name: String, dtype: Dtype, bytes: impl Into<Vec<u8>>) {
        let content = Content::Bytes(bytes.into());
        self.scalars.push(Variable { name, shape: Vec::new(), dtype, content });
    }

    pub(super) fn flag(&mut self, name: String, flag: bool) {
        self.scalar(name, Dtype::I8, [u8::from(flag)]);
    }

    pub(super) fn number(&mut self, name: String, number: f32) {
        self.scalar(name, Dtype::Float(FloatType::F32), number.to_le_bytes());
    }

    /// Matrices with one input, one after the other, and their biases, with zeros where others have one.
    pub(super) fn linear(&mut self, scope: &str, names: &[String]) {
        let found: Vec<_> = names.iter().filter_map(|name| self.need(&format!("{name}.weight"))).collect();
        let Some((_, first)) = found.first() else { return };
        let columns = first.matrix()[1];
        let rows = found.iter().map(|(_, weight)| weight.matrix()[0]).sum();
        let parts = found.iter().map(|(id, weight)| Part::whole(*id, weight)).collect();
        self.matrices.push((scope.to_owned(), vec![rows, columns], parts));
        let biases: Vec<_> = names.iter().map(|name| self.find(&format!("{name}.bias"))).collect();
        if biases.iter().any(Option::is_some) {
            let each = biases.into_iter().zip(&found).map(|(bias, (_, weight))| match bias {
                Some((id, bias)) => Part::whole(id, bias),
                None => Part::Zeros(weight.matrix()[0]),
            });
            let parts = each.collect();
            self.floats.push((format!("{scope}/bias"), vec![rows], parts));
        }
    }

    /// A weight with one reader, as it is.
    pub(super) fn kernel(&mut self, scope: &str, name: &str) {
        if let Some((id, weight)) = self.need(&format!("{name}.weight")) {
            self.matrices.push((scope.to_owned(), weight.shape.clone(), vec![Part::whole(id, weight)]));
        }
        self.vector(&format!("{scope}/bias"), &format!("{name}.bias"));
    }

    pub(super) fn vector(&mut self, variable: &str, name: &str) {
        if let Some((id, weight)) = self.find(name) {
            self.floats.push((variable.to_owned(), vec![weight.len()], vec![Part::whole(id, weight)]));
        }
    }

    /// A number for each token.
    pub(super) fn of_tokens(&mut self, variable: &str, name: &str) {
        if let Some((id, weight)) = self.find(name) {
            let count = self.tokens.unwrap_or(weight.len());
            self.floats.push((variable.to_owned(), vec![count], vec![Part::First { id, weight, count }]));
        }
    }

    pub(super) fn norm(&mut self, scope: &str, name: &str) {
        self.vector(&format!("{scope}/gamma"), &format!("{name}.weight"));
        self.vector(&format!("{scope}/beta"), &format!("{name}.bias"));
    }

    /// A table under the first of its names; the others are aliases. `names`: sorted.
    pub(super) fn table(&mut self, tables: &[(&str, &str)]) {
        let mut first: BTreeMap<WeightId, String> = BTreeMap::new();
        for (scope, name) in tables {
            let Some((id, weight)) = self.need(&format!("{name}.weight")) else { continue };
            match first.get(&id) {
                Some(other) => self.aliases.push((format!("{scope}/weight"), format!("{other}/weight"))),
                None => {
                    first.insert(id, (*scope).to_owned());
                    let [rows, columns] = weight.matrix();
                    let rows = self.tokens.unwrap_or(rows);
                    let part = Part::Rows { id, weight, rows: 0..rows };
                    self.matrices.push(((*scope).to_owned(), vec![rows, columns], vec![part]));
                }
            }
        }
    }

    /// A table of positions from the row of the first token on, and the rows before it.
    pub(super) fn positions(&mut self, scope: &str, name: &str, first: usize) {
        let Some((id, weight)) = self.need(&format!("{name}.weight")) else { return };
        let [rows, columns] = weight.matrix();
        let mut rows_of = |name: &str, rows: std::ops::Range<usize>| {
            let shape = vec![rows.len(), columns];
            self.floats.push((format!("{scope}/{name}"), shape, vec![Part::Rows { id, weight, rows }]));
        };
        rows_of("encodings", first.min(rows)..rows);
        if first > 0 {
            rows_of("before", 0..first.min(rows));
        }
    }

    /// The bias of each distance and head.
    pub(super) fn table_of_distances(&mut self, variable: &str, name: &str) {
        if let Some((id, weight)) = self.need(name) {
            self.floats.push((variable.to_owned(), weight.shape.clone(), vec![Part::whole(id, weight)]));
        }
    }

    /// Types for all, since they depend on each other. Errors: everything that has no place.
    pub(super) fn finish(mut self, spec: (&'static str, u32)) -> Result<Layout<'a>, ExportError> {
        let unplaced = self.model.graph.weights.iter().filter(|(id, _)| !self.placed.contains(id));
        self.faults.extend(unplaced.map(|(_, weight)| format!("{}: the engine has no place for it", weight.name)));
        let has_codes = self.matrices.iter().flat_map(|(.., parts)| parts).any(is_codes);
        let single = FloatType::F32;
        let of_matrices =
            if has_codes { single } else { part::common(self.matrices.iter().flat_map(|(.., parts)| parts)) };
        let of_others = if has_codes { single } else { part::common(self.floats.iter().flat_map(|(.., parts)| parts)) };
        let mut variables = std::mem::take(&mut self.scalars);
        for (scope, shape, parts) in std::mem::take(&mut self.matrices) {
            let name = format!("{scope}/weight");
            if parts.iter().any(is_codes) {
                self.faults.extend(parts.iter().filter_map(|part| part.misfit(&scope)));
                let scales = Content::Inverses(parts.clone());
                let rows = vec![shape[0]];
                let dtype = Dtype::Float(single);
                variables.push(Variable { name: format!("{name}_scale"), shape: rows, dtype, content: scales });
                variables.push(Variable { name, shape, dtype: Dtype::I8, content: Content::Rows(parts) });
                continue;
            }
            let own = if has_codes { format!("{scope}/floats") } else { name.clone() };
            if has_codes {
                self.aliases.iter_mut().filter(|(_, of)| *of == name).for_each(|(_, of)| own.clone_into(of));
                self.aliases.push((name, own.clone()));
            }
            let content = Content::Rows(parts);
            variables.push(Variable { name: own, shape, dtype: Dtype::Float(of_matrices), content });
        }
        for (name, shape, parts) in std::mem::take(&mut self.floats) {
            self.faults.extend(parts.iter().filter(|part| is_codes(part)).map(|part| part.floats_only()));
            variables.push(Variable { name, shape, dtype: Dtype::Float(of_others), content: Content::Rows(parts) });
        }
        for Variable { name, shape, dtype, .. } in &variables {
            let bytes = shape.iter().product::<usize>().saturating_mul(dtype.bytes());
            if bytes > VARIABLE_BYTES {
                self.faults.push(format!("{name}: expected at most {VARIABLE_BYTES} bytes, found {bytes}"));
            }
        }
        if !self.faults.is_empty() {
            let hint = "the engine holds `int8` and floats, queries, keys and values of one kind; a rule of `quantize` can give these \
                        weights another scheme or keep them"
                .to_owned();
            return Err(ExportError::CannotHold { format: NAME, items: self.faults, hint });
        }
        variables.sort_by(|a, b| a.name.cmp(&b.name));
        self.aliases.sort();
        Ok(Layout { spec, variables, aliases: self.aliases })
    }
}
