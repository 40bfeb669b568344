//! temp
use graph::progress::Quiet;
use graph::*;
use quant::*;
use std::time::Instant;
fn main() {
    let path = std::path::Path::new("/tmp/perf.bin");
    let (rows, cols, n) = (3072usize, 768usize, 94usize);
    if !path.exists() {
        use std::io::Write;
        let mut f = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        let mut s = 1u64;
        for _ in 0..rows * cols * n {
            let mut t = 0f32;
            for _ in 0..4 { s ^= s << 13; s ^= s >> 7; s ^= s << 17; t += (s >> 40) as f32 / (1 << 24) as f32 - 0.5; }
            f.write_all(&(t * 0.05).to_le_bytes()).unwrap();
        }
    }
    let file = Blob::open(path).unwrap();
    for name in std::env::args().skip(1) {
        let mut g = Graph::default();
        let b = rows as u64 * cols as u64 * 4;
        let mut plan = Plan::default();
        for i in 0..n as u64 {
            let id = g.weights.push(Weight { name: format!("{i}"), shape: vec![rows, cols], data: WeightData::Stored { blob: file.slice(i * b..(i + 1) * b).unwrap(), dtype: FloatType::F32 } });
            let (s, clip) = match name.strip_suffix("+mse") { Some(n) => (n, Clip::Mse), None => (&name[..], Clip::None) };
            plan.weights.push(Planned { id, name: format!("{i}"), role: Role::Linear, scheme: s.parse().unwrap(), clip, decided_by: Decider::Scheme });
        }
        let scratch = Scratch::in_dir(std::path::Path::new("/tmp")).unwrap();
        let t = Instant::now();
        let r = quantize(&mut g, &plan, &scratch, &Quiet).unwrap();
        println!("{name}: {:.2?} rel {:.5}", t.elapsed(), r[0].relative_l2_error);
    }
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", s.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
