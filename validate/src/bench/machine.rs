//! What the system tells of processes and of the load; nothing where it has no `/proc`.

use std::fs;

use serde::{Deserialize, Serialize};

/// Memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Resident now (VmRSS).
    pub resident_bytes: u64,
    /// The most that was ever resident (VmHWM).
    pub peak_bytes: u64,
}

impl Memory {
    /// Of a process, of this one without a number.
    pub fn of(process: Option<u32>) -> Option<Memory> {
        let name = process.map_or("self".to_owned(), |number| number.to_string());
        Memory::read(&fs::read_to_string(format!("/proc/{name}/status")).ok()?)
    }

    fn read(status: &str) -> Option<Memory> {
        let [resident_bytes, peak_bytes] = [kilobytes(status, "VmRSS:")?, kilobytes(status, "VmHWM:")?];
        Some(Memory { resident_bytes, peak_bytes })
    }
}

/// Processes that ran or wanted to over the last minute, on average. While one engine computes on n threads it is about n.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Memory of the machine in bytes: all, and what could be had without pushing others out.
pub fn memory() -> Option<[u64; 2]> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some([kilobytes(&text, "MemTotal:")?, kilobytes(&text, "MemAvailable:")?])
}

/// Bytes of a line `NAME  1234 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// As the system calls the processor.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_a_status_and_half_a_status_is_none() {
        let status = "Name:\tx\nVmPeak:\t  99 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(Memory::read(status), Some(Memory { resident_bytes: 1 << 20, peak_bytes: 2 << 20 }));
        assert_eq!(Memory::read("VmHWM:\t 1 kB\n"), None);
        assert_eq!(Memory::read("VmHWM:\t x kB\nVmRSS:\t 1 kB"), None);
    }
}
