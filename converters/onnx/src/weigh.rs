//! What an ONNX file takes decoded, told from its bytes.

use std::mem::size_of;

use checkpoint::limits::Budget;
use checkpoint::protobuf::{Field, fields};

use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, TrainingInfoProto, TypeProto,
    ValueInfoProto,
};

/// Messages that have messages inside, and the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    /// One of the kinds of types.
    OneType,
    Shape,
    Function,
    Training,
    Annotation,
    NodeDevice,
    Sharding,
    ShardedDim,
    /// Pairs of strings, dimensions, opsets, segments.
    Leaf,
}

impl Message {
    /// The message that a field holds, by the tags of onnx.proto.
    fn inside(self, tag: u64) -> Option<Message> {
        use Message::*;
        Some(match (self, tag) {
            (Model, 7) => Graph,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Model, 8 | 14 | 26) => Leaf,
            (Graph, 1) => Node,
            (Graph, 5) => Tensor,
            (Graph, 15) => SparseTensor,
            (Graph, 11..=13) => ValueInfo,
            (Graph, 14) => Annotation,
            (Graph, 16) => Leaf,
            (Node, 5) => Attribute,
            (Node, 9) => Leaf,
            (Node, 10) => NodeDevice,
            (Attribute, 5 | 10) => Tensor,
            (Attribute, 6 | 11) => Graph,
            (Attribute, 22 | 23) => SparseTensor,
            (Attribute, 14 | 15) => Type,
            (Tensor, 3 | 13 | 16) => Leaf,
            (SparseTensor, 1 | 2) => Tensor,
            (ValueInfo, 2) => Type,
            (ValueInfo, 4) => Leaf,
            (Type, 1 | 4 | 5 | 7 | 8 | 9) => OneType,
            // The tensor's shape, or the type of the elements of a sequence, of a map's values or of what is optional.
            (OneType, 1) => Type,
            (OneType, 2) => Shape,
            (Shape, 1) => Leaf,
            (Function, 11) => Attribute,
            (Function, 7) => Node,
            (Function, 12) => ValueInfo,
            (Function, 9 | 14) => Leaf,
            (Training, 1 | 2) => Graph,
            (Training, 3 | 4) => Leaf,
            (Annotation, 2) => Leaf,
            (NodeDevice, 2) => Sharding,
            (Sharding, 3) => Leaf,
            (Sharding, 4) => ShardedDim,
            (ShardedDim, 2) => Leaf,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Message::Model => 0,
            Message::Graph => size_of::<GraphProto>(),
            Message::Node => size_of::<NodeProto>(),
            Message::Attribute => size_of::<AttributeProto>(),
            Message::Tensor => size_of::<TensorProto>(),
            Message::SparseTensor => size_of::<SparseTensorProto>(),
            Message::ValueInfo => size_of::<ValueInfoProto>(),
            Message::Type | Message::OneType | Message::Shape => size_of::<TypeProto>(),
            Message::Function => size_of::<FunctionProto>(),
            Message::Training => size_of::<TrainingInfoProto>(),
            Message::Annotation | Message::NodeDevice | Message::Sharding | Message::ShardedDim | Message::Leaf => 96,
        }
    }
}

/// A list doubles while it grows, and what is made of the messages stands beside them.
const TIMES: u64 = 2;
/// A text or bytes, beside their length.
const TEXT_BYTES: u64 = 56;
/// A number of a list.
const NUMBER_BYTES: u64 = 16;
/// Deeper than prost decodes.
const DEPTH: usize = 100;
/// Bytes of constants, which stay slices of the file.
const RAW_DATA: u64 = 9;

/// Whether a model can be decoded within the memory that its length allows. Errors: it cannot, in words.
pub(crate) fn check(model: &[u8]) -> Result<(), String> {
    // The file itself is in memory too.
    let mut budget = Budget::share(model.len() as u64, 2);
    weigh(Message::Model, model, 0, &mut budget)
}

fn weigh(message: Message, bytes: &[u8], depth: usize, budget: &mut Budget) -> Result<(), String> {
    if depth > DEPTH {
        return Ok(());
    }
    for (tag, field) in fields(bytes) {
        match (field, message.inside(tag)) {
            (Field::Bytes(bytes), Some(inside)) => {
                budget.take(TIMES * inside.bytes() as u64)?;
                weigh(inside, bytes, depth + 1, budget)?;
            }
            (Field::Bytes(_), None) if message == Message::Tensor && tag == RAW_DATA => {}
            (Field::Bytes(bytes), None) => {
                // Numbers of a byte each, where they are numbers.
                let is_numbers = matches!(message, Message::Tensor | Message::Attribute | Message::SparseTensor);
                let each = if is_numbers { NUMBER_BYTES } else { 1 };
                budget.take(TIMES * TEXT_BYTES + bytes.len() as u64 * each)?;
            }
            (Field::Number, _) => budget.take(NUMBER_BYTES)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![tag << 3 | 2];
        prost::encode_length_delimiter(bytes.len(), &mut out).expect("a vector grows");
        out.extend(bytes);
        out
    }

    #[test]
    fn messages_of_two_bytes_are_refused_where_there_are_too_many() {
        for (tag, name) in [(1, "nodes"), (5, "initializers"), (13, "values")] {
            let model = |count| field(7, &field(tag, &[]).repeat(count));
            check(&model(1000)).expect(name);
            let refused = check(&model(1_000_000)).expect_err(name);
            assert!(refused.starts_with("expected contents that take at most 93 MB of memory"), "{name}: {refused}");
        }
        let attributes = field(7, &field(1, &field(5, &[]).repeat(1_000_000)));
        assert!(check(&attributes).is_err());
    }

    #[test]
    fn weights_inside_the_file_weigh_nothing() {
        let weight = field(5, &field(9, &[b'\n'; 50 << 20]));
        check(&field(7, &weight)).expect("raw bytes are no messages");
    }
}
