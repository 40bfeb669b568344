//! One graph of fixed shapes in onnxruntime.

use std::borrow::Cow;

use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef, ValueType};

use crate::runtime::npu::{Codes, Found, Signature, Step, Value, with_codes};

/// A session, on whichever device it was opened.
pub(in crate::runtime) struct FixedGraph(pub(in crate::runtime) OrtSession);

/// What a session takes and returns.
pub(in crate::runtime) fn signature(session: &OrtSession) -> Signature {
    let found = |outlets: &[ort::value::Outlet]| {
        outlets.iter().map(|o| Found { name: o.name().to_owned(), ty: ty(o.dtype()) }).collect()
    };
    Signature { inputs: found(session.inputs()), outputs: found(session.outputs()) }
}

fn ty(ty: &ValueType) -> String {
    let ValueType::Tensor { ty, shape, .. } = ty else { return "no tensor".to_owned() };
    let name = match ty {
        TensorElementType::Float32 => "float32".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let shape: Vec<String> = shape.iter().map(|n| if *n < 0 { "?".to_owned() } else { n.to_string() }).collect();
    format!("{name}[{}]", shape.join(", "))
}

/// Runs a session. Errors: onnxruntime's words.
pub(in crate::runtime) fn run(
    session: &mut OrtSession,
    inputs: &[(&str, &Value)],
    outputs: &[&str],
) -> Result<Vec<Value>, String> {
    let mut feeds: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
    for (name, value) in inputs {
        let fed = with_codes!(&value.codes, list => view(&value.shape, list));
        feeds.push((Cow::Borrowed(*name), fed.map_err(|e| format!("{name}: {e}"))?));
    }
    let found = session.run(feeds).map_err(|e| e.to_string())?;
    let of = |name: &&str| {
        let value = found.get(*name).ok_or_else(|| format!("expected an output {name}, found none"))?;
        from_ort(value).map_err(|e| format!("{name}: {e}"))
    };
    outputs.iter().map(of).collect()
}

fn view<'v, T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
    shape: &[usize],
    list: &'v [T],
) -> ort::Result<SessionInputValue<'v>> {
    TensorRef::from_array_view((shape.to_vec(), list)).map(SessionInputValue::from)
}

fn from_ort(value: &DynValue) -> Result<Value, String> {
    fn of<T: PrimitiveTensorElementType + Copy>(
        value: &DynValue,
        codes: impl Fn(Vec<T>) -> Codes,
    ) -> Result<Value, String> {
        let (shape, data) = value.try_extract_tensor::<T>().map_err(|e| e.to_string())?;
        let shape: Option<Vec<usize>> = shape.iter().map(|n| usize::try_from(*n).ok()).collect();
        Ok(Value { shape: shape.ok_or("a negative length")?, codes: codes(data.to_vec()) })
    }
    match value.dtype() {
        ValueType::Tensor { ty: TensorElementType::Int32, .. } => of(value, Codes::Int32),
        ValueType::Tensor { ty: TensorElementType::Float32, .. } => of(value, Codes::Float32),
        ValueType::Tensor { ty: TensorElementType::Uint8, .. } => of(value, Codes::Uint8),
        ValueType::Tensor { ty: TensorElementType::Uint16, .. } => of(value, Codes::Uint16),
        ValueType::Tensor { ty: TensorElementType::Int16, .. } => of(value, Codes::Int16),
        other => Err(format!("expected int32, float32, uint8, uint16 or int16, found {other}")),
    }
}

impl Step for FixedGraph {
    fn signature(&self) -> Signature {
        signature(&self.0)
    }

    fn run(&mut self, inputs: &[(&str, &Value)], outputs: &[&str]) -> Result<Vec<Value>, String> {
        run(&mut self.0, inputs, outputs)
    }
}
