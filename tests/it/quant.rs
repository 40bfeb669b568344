//! The policy and the quantizers on real checkpoints; their numbers on single rows are tested in the crate.

use converters::import;
use graph::progress::Quiet;
use graph::{Graph, Quantized, Scratch, WeightData};
use quant::{Activations, Policy, Role, Scheme, TensorRecord};

use crate::fixture::{fixture, fixtures, repository};

fn scheme(name: &str) -> Scheme {
    name.parse().expect("a scheme")
}

fn quantized(graph: &Graph, policy: &Policy) -> (Graph, Vec<TensorRecord>) {
    let mut graph = graph.clone();
    let plan = policy.plan(&graph).unwrap_or_else(|e| panic!("{e}"));
    let records = quant::quantize(&mut graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("finite");
    (graph, records)
}

/// Everything that an exporter would write of a weight.
fn bytes(data: &WeightData) -> Vec<u8> {
    match data {
        WeightData::Stored { blob, .. } => blob.read().expect("reads"),
        WeightData::Derived(_, base) => bytes(base),
        WeightData::Computed(_) => Vec::new(),
        WeightData::Quantized(Quantized::Ggml { blocks, .. }) => blocks.read().expect("reads"),
        WeightData::Quantized(Quantized::Float8(tensor)) => tensor.codes.read().expect("reads"),
        WeightData::Quantized(Quantized::Affine(tensor)) => {
            let scales = tensor.scales.iter().flat_map(|scale| scale.to_le_bytes());
            let zeros = tensor.zeros.iter().flatten().map(|zero| zero.cast_unsigned());
            tensor.codes.read().expect("reads").into_iter().chain(scales).chain(zeros).collect()
        }
    }
}

#[test]
fn every_weight_of_every_fixture_has_the_role_that_its_name_says() {
    for dir in fixtures() {
        let model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        let roles = quant::roles(&model.graph);
        assert_eq!(roles.len(), model.graph.weights.len(), "{}", dir.display());
        for (id, weight) in model.graph.weights.iter() {
            // Mu calls its norms ln1 to ln3, ln_e and ln_f.
            let module = weight.name.trim_end_matches(".weight").rsplit('.').next().unwrap_or_default();
            let expected = match weight.name.as_str() {
                name if name.ends_with("relative_attention_bias.weight") => Role::RelativeBias,
                name if name.ends_with("bias") || name.ends_with("eoi_embedding") => Role::Bias,
                // Spread over pairs of places and added to their scores.
                name if name.ends_with("relative_position_bias_table") => Role::Bias,
                // Added to what the encoder of images makes, and one row of BERT's types to every token.
                name if name.ends_with("_token") || name.ends_with("position_embeddings") => Role::Bias,
                _ if module == "token_type_embeddings" => Role::Bias,
                _ if module == "lm_head"
                    || module == "proj_out"
                    || module == "output_projection"
                    || module == "out_proj" && weight.name.contains("lm_head") =>
                {
                    Role::Head
                }
                _ if ["shared", "embed_tokens", "wte", "word_embeddings", "is_end_of_image"].contains(&module) => {
                    Role::Embedding
                }
                name if name.contains("embed_positions") || name.ends_with("pos_idx_to_embed") => Role::Position,
                _ if ["row_embeddings", "column_embeddings"].contains(&module) => Role::Position,
                _ if ["position_embeddings", "wpe"].contains(&module) => Role::Position,
                _ if module.starts_with("conv") || ["projection", "dw"].contains(&module) => Role::Conv,
                name if name.contains(".convs.") && name.ends_with(".proj.weight") => Role::Conv,
                _ if module.to_lowercase().contains("norm") || module.starts_with("ln") => Role::Norm,
                name if name.ends_with("mlp.c_proj.weight") => Role::FeedForwardOut,
                name if name.ends_with("output.dense.weight") && !name.contains("attention.output") => {
                    Role::FeedForwardOut
                }
                _ if ["wo", "fc2", "down_proj"].contains(&module) => Role::FeedForwardOut,
                _ => Role::Linear,
            };
            assert_eq!(roles[&id], expected, "{} of {}", weight.name, dir.display());
        }
    }
}

#[test]
fn passes_change_no_role() {
    let mut model = import(&repository("models/g2p-t5")).expect("imports");
    let by_name = |graph: &Graph| -> Vec<(String, Role)> {
        let mut roles: Vec<_> =
            quant::roles(graph).into_iter().map(|(id, role)| (graph.weights.get(id).name.clone(), role)).collect();
        roles.sort();
        roles
    };
    let before = by_name(&model.graph);
    graph::passes::run(&mut model.graph).expect("passes");
    assert_eq!(by_name(&model.graph), before);
}

#[test]
fn a_model_has_the_same_bytes_and_records_at_any_number_of_threads() {
    let model = import(&repository("models/g2p-t5")).expect("imports");
    for name in ["bf16", "int8", "int4-g32-asym", "q4_k"] {
        let runs = [1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (graph, records) = pool.install(|| quantized(&model.graph, &Policy::of(scheme(name))));
            (graph.weights.iter().map(|(_, w)| bytes(&w.data)).collect::<Vec<_>>(), records)
        });
        assert!(runs[0] == runs[1], "{name}");
    }
}

#[test]
fn more_bits_and_smaller_groups_leave_less_error() {
    let model = import(&repository("models/g2p-t5")).expect("imports");
    let name = "encoder.block.0.layer.0.SelfAttention.q.weight";
    let errors = ["int4", "int4-g128", "int4-g32", "q4_k", "q5_k", "q6_k", "int8", "int8-g32", "keep"].map(|s| {
        let (_, records) = quantized(&model.graph, &Policy::of(scheme(s)));
        records.into_iter().find(|r| r.name == name).expect("there").relative_l2_error
    });
    assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
    assert_eq!(errors[8], 0.0);
    // A uniform error of one step s of 127 in max|w|, s/√12, against weights of about a third of the maximum.
    assert!(errors[6] < 0.01, "{errors:?}");
}

#[test]
fn settings_without_effect_are_refused() {
    let model = import(&fixture("t5-v1.1")).expect("imports");
    let policy = Policy { activations: Activations::Dynamic, ..Policy::of(scheme("int8-g32")) };
    let error = policy.plan(&model.graph).expect_err("groups have no integer product").to_string();
    let why = "no Linear has int8 weights with one symmetric scale per row";
    assert_eq!(error, format!("`activations: dynamic` has no effect: {why}"));
}
