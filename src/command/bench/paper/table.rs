//! What `bench --paper` prints.

use serde_json::{Value as Json, json};
use validate::bench::Spread;
use validate::bench::picture::{Line, Panel};
use validate::paper::Shape;

use super::compared::{About, Compared, Row};
use crate::show::table::aligned;

/// What the authors found on a Qualcomm NPU, encoder-decoder over decoder-only.
const PUBLISHED: [(&str, &str); 4] =
    [("first token", "0.53"), ("tokens/s", "4.7"), ("memory", "0.78"), ("FLOPs", "0.84 to 0.89")];

/// The table, and below it what it stands on.
pub fn text(rows: &[Row], about: &About) -> String {
    let heads = [
        "source",
        "first token ms",
        "decoder-only",
        "ratio",
        "tokens/s",
        "decoder-only",
        "ratio",
        "peak MB",
        "decoder-only",
        "ratio",
        "GFLOP",
        "decoder-only",
        "ratio",
    ];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    let shown = |spread: Option<Spread>, digits: usize| {
        let wide = if spread.is_some_and(|spread| spread.is_wide()) { "~" } else { "" };
        spread.map_or(String::new(), |spread| format!("{wide}{:.digits$}", spread.median))
    };
    let number = |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
    for row in rows {
        lines.push(vec![
            row.source.to_string(),
            shown(Some(row.first_ms[0]), 1),
            shown(Some(row.first_ms[1]), 1),
            shown(Some(row.first_ratio), 2),
            shown(row.tokens_per_s[0], 1),
            shown(row.tokens_per_s[1], 1),
            shown(row.rate_ratio, 2),
            number(row.peak_mb[0], 0),
            number(row.peak_mb[1], 0),
            number(row.memory_ratio(), 2),
            number(Some(row.gflops[0]), 1),
            number(Some(row.gflops[1]), 1),
            number(Some(row.flops_ratio()), 2),
        ]);
    }
    let published: Vec<String> = PUBLISHED.iter().map(|(what, ratio)| format!("{what} {ratio}")).collect();
    let load = about.load.map(|load| load.map_or("?".to_owned(), |load| format!("{load:.2}")));
    format!(
        "{}\n{}\n{} {}: {}; {}\npeak memory is that of each model's own process, the load included\n{} new tokens, \
         medians of {} runs in turn; `~`: the quartiles are more than a fifth of the median apart, so it is not to be quoted; load \
         of the machine {} before and {} after\npublished (arXiv 2501.16273, Mu's shape on a Qualcomm NPU): {}\n",
        aligned(0, &lines),
        models(about),
        about.engine.name,
        about.engine.version,
        about.engine.settings,
        about.computes,
        about.tokens,
        about.runs,
        load[0],
        load[1],
        published.join(", ")
    )
}

/// What stands against what, in words.
fn models(about: &About) -> String {
    let Compared { shape, depths: [encoder, decoder], depth, config } = &about.compared;
    let [ours, theirs] = about.parameters.map(million);
    let of = match config {
        None => "Mu's shape".to_owned(),
        Some((file, sizes)) => format!("the sizes of {}, {}", file.display(), sizes.model_type),
    };
    let mut text = format!(
        "encoder-decoder of {encoder}+{decoder} layers and {ours} parameters ({of}) over decoder-only of {depth} layers and {theirs}; \
         random weights, so that the tokens mean nothing and the work is the same"
    );
    if let Some((_, sizes)) = config {
        let Shape { width, queries, keys, head, hidden, gated, vocabulary } = shape;
        text.push_str(&format!(
            "\nthe blocks of both are Mu's with these sizes: width {width}, {} query and {} key heads of {head}, {hidden} inside{}, \
             vocabulary {vocabulary}; rotary positions, RMS norms, GELU, one matrix for embedding and head. {}'s own graph has {} \
             parameters",
            queries / head,
            keys / head,
            if *gated { " with a gate" } else { "" },
            sizes.model_type,
            million(sizes.parameters),
        ));
    }
    text
}

/// `332 million`, `1.25 million`.
fn million(count: u64) -> String {
    let count = count as f64 / 1e6;
    if count < 10.0 { format!("{count:.2} million") } else { format!("{count:.0} million") }
}

/// A list with an object for each length.
pub fn json(rows: &[Row], about: &About) -> String {
    let rows: Vec<Json> = rows
        .iter()
        .map(|row| {
            json!({
                "source": row.source,
                "tokens": about.tokens,
                "runs": about.runs,
                "engine": about.engine,
                "parameters": about.parameters,
                "computes": about.computes,
                "threads": about.threads,
                "config": about.compared.config.as_ref().map(|(file, _)| file.display().to_string()),
                "shape": about.compared.shape,
                "layers": about.compared.depths,
                "decoder_only_layers": about.compared.depth,
                "machine_load": about.load,
                "first_token_ms": row.first_ms,
                "tokens_per_s": row.tokens_per_s,
                "peak_rss_mb": row.peak_mb,
                "gflop": row.gflops,
                "first_token_ratio": row.first_ratio,
                "tokens_per_s_ratio": row.rate_ratio,
                "peak_rss_ratio": row.memory_ratio(),
                "gflop_ratio": row.flops_ratio(),
            })
        })
        .collect();
    serde_json::to_string_pretty(&rows).expect("only JSON types") + "\n"
}

/// First token, tokens a second and ratios over the length of the source.
pub fn panels(rows: &[Row]) -> Vec<Panel> {
    let line = |name: &str, of: &dyn Fn(&Row) -> Option<Spread>| Line {
        name: name.to_owned(),
        points: rows.iter().filter_map(|row| Some((row.source as f64, of(row)?))).collect(),
    };
    let exact = |value: f64| Some(Spread { median: value, low: value, high: value });
    let panel =
        |title: &str, lines: Vec<Line>| Panel { title: title.to_owned(), across: "source, tokens".to_owned(), lines };
    vec![
        panel(
            "first token, ms",
            vec![
                line("encoder-decoder", &|row| Some(row.first_ms[0])),
                line("decoder-only", &|row| Some(row.first_ms[1])),
            ],
        ),
        panel(
            "tokens per second",
            vec![line("encoder-decoder", &|row| row.tokens_per_s[0]), line("decoder-only", &|row| row.tokens_per_s[1])],
        ),
        panel(
            "encoder-decoder over decoder-only",
            vec![
                line("first token (published: 0.53)", &|row| Some(row.first_ratio)),
                line("tokens per second (published: 4.7)", &|row| row.rate_ratio),
                line("memory (published: 0.78)", &|row| row.memory_ratio().and_then(exact)),
                line("FLOPs (published: 0.84 to 0.89)", &|row| exact(row.flops_ratio())),
            ],
        ),
    ]
}
