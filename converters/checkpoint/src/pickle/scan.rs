//! What a pickle would take in memory, told from its program before `pytorch-reader` runs it.
//!
//! The crate bounds copies and nesting by numbers of its own, which allow gigabytes: a value of one byte becomes a hundred,
//! a deflated entry of an archive a thousand times its length, and each tensor gets a name as long as all keys around it.
//! So the same stack machine runs here first, on sizes instead of values.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip_of_pytorch_reader::{CompressionMethod, ZipArchive};

use crate::limits::Budget;

/// A new value: on the stack while that grows, in the list or table it goes to while that grows, and in a copy of the tree.
const VALUE_BYTES: u64 = 512;
/// A value of a tree that is copied at once.
const COPIED_VALUE_BYTES: u64 = 160;
/// A place of the memo.
const MEMO_BYTES: u64 = 256;
/// How often the name of a tensor is held: by the tensor, by both tables of tensors and by the list of what is no tensor.
const NAMES: u64 = 4;
/// The longest number that is a key or a place in a list.
const NUMBER_BYTES: u64 = 20;
/// The pickles that a file of before PyTorch 1.6 begins with: a number, a version, the system, the tensors, their order.
const LEGACY_PICKLES: usize = 5;
/// The number, as protocols 2 and up and as 0 and 1 write it, and how far from the beginning it is looked for; as in the crate.
const LEGACY_MAGIC: [&[u8]; 2] =
    [&[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19], b"119547037146038801333356"];
const LEGACY_MAGIC_WITHIN: usize = 64;
/// Where an archive of before PyTorch 0.1.10 says that it is one.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// Whether the tensors of a file can be listed within the memory that its length allows.
///
/// Errors: they cannot; the pickle is none; an archive has compressed entries, which `torch.save` never writes.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut file = graph::open_file(path).map_err(text)?;
    let len = file.metadata().map_err(text)?.len();
    // Half is for the second pass over the tree, and for what is made of the tensors.
    let mut budget = Budget::share(len, 2);
    let mut head = Vec::new();
    file.by_ref().take(TAR_MAGIC.end as u64).read_to_end(&mut head).map_err(text)?;
    file.seek(SeekFrom::Start(0)).map_err(text)?;
    if head.starts_with(b"PK") {
        return check_archive(file, &mut budget);
    }
    if head.get(TAR_MAGIC) == Some(b"ustar") {
        return Err("expected a file of torch.save of PyTorch 0.1.10 or later, found a tar archive".to_owned());
    }
    let start = &head[..head.len().min(LEGACY_MAGIC_WITHIN)];
    let is_legacy = LEGACY_MAGIC.iter().any(|magic| start.windows(magic.len()).any(|window| window == *magic));
    let mut reader = BufReader::new(file);
    for _ in 0..if is_legacy { LEGACY_PICKLES } else { 1 } {
        scan(&mut reader, &mut budget)?;
    }
    Ok(())
}

fn check_archive(file: File, budget: &mut Budget) -> Result<(), String> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| format!("zip archive error: {error}"))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index_raw(index).map_err(|error| format!("zip archive error: {error}"))?;
        let name = entry.name().to_owned();
        if entry.compression() != CompressionMethod::Stored || entry.compressed_size() != entry.size() {
            return Err(format!(
                "{name}: expected an entry that is stored, as torch.save does, found a compressed one"
            ));
        }
        if name.ends_with("data.pkl") {
            budget.take(entry.size())?;
            scan(&mut BufReader::new(&mut entry), budget).map_err(|message| format!("{name}: {message}"))?;
        }
    }
    Ok(())
}

/// What a value takes with all that is inside.
#[derive(Clone, Copy, Default)]
struct Size {
    values: u64,
    /// Of all strings inside.
    bytes: u64,
    /// The longest string inside, or the string itself.
    longest: u64,
    /// What may be a tensor inside.
    leaves: u64,
    /// The names of the leaves, from here on.
    names: u64,
}

impl Size {
    fn scalar(bytes: u64) -> Size {
        Size { values: 1, bytes, longest: bytes.max(NUMBER_BYTES), leaves: 1, names: 0 }
    }

    /// This with another inside, which is called by a name of so many bytes.
    fn with(self, inside: Size, name: u64) -> Size {
        let names = inside.names.saturating_add(inside.leaves.saturating_mul(name + 1));
        Size {
            values: self.values.saturating_add(inside.values),
            bytes: self.bytes.saturating_add(inside.bytes),
            longest: self.longest.max(inside.longest),
            leaves: self.leaves.saturating_add(inside.leaves),
            names: self.names.saturating_add(names),
        }
    }

    fn copied(self) -> u64 {
        self.values.saturating_mul(COPIED_VALUE_BYTES).saturating_add(self.bytes)
    }
}

#[derive(Clone, Copy)]
struct Slot {
    size: Size,
    /// The place of the memo that has a copy, which `BUILD` writes anew.
    memo: Option<u32>,
}

struct Machine<'a> {
    stack: Vec<Slot>,
    marks: Vec<usize>,
    memo: HashMap<u32, Slot>,
    budget: &'a mut Budget,
}

/// Runs one pickle, and leaves `reader` behind it.
fn scan(reader: &mut impl BufRead, budget: &mut Budget) -> Result<(), String> {
    let mut machine = Machine { stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), budget };
    while machine.step(reader)? {}
    let Size { leaves, names, .. } = machine.pop()?.size;
    machine.budget.take(names.saturating_add(leaves.saturating_mul(NUMBER_BYTES)).saturating_mul(NAMES))
}

impl Machine<'_> {
    /// One opcode; `false` after the last. The letters are those of pickletools.py.
    fn step(&mut self, r: &mut impl BufRead) -> Result<bool, String> {
        let [op] = array(r)?;
        match op {
            b'.' => return Ok(false),
            0x80 => skip(r, 1)?,
            0x95 => skip(r, 8)?,
            b'N' | 0x88 | 0x89 => self.push(Size::scalar(0))?,
            b'I' | b'L' | b'F' | b'V' => {
                // Latin-1 in the file, UTF-8 in memory.
                let len = line(r, self.budget)?;
                self.push(Size::scalar(2 * len))?;
            }
            b'K' => self.number(r, 1)?,
            b'M' => self.number(r, 2)?,
            b'J' => self.number(r, 4)?,
            b'G' => self.number(r, 8)?,
            0x8a | b'U' | b'C' | 0x8c => {
                let [len] = array(r)?;
                self.string(r, u64::from(len))?;
            }
            0x8b | b'T' | b'X' | b'B' => {
                let len = u32::from_le_bytes(array(r)?);
                self.string(r, u64::from(len))?;
            }
            0x8d | 0x8e | 0x96 => {
                let len = u64::from_le_bytes(array(r)?);
                self.string(r, len)?;
            }
            b'(' => {
                self.budget.take(16)?;
                self.marks.push(self.stack.len());
            }
            b')' | b']' | b'}' | 0x8f => self.push(Size { values: 1, ..Size::default() })?,
            b't' | b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(listed(Size { values: 1, ..Size::default() }, &items))?;
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..op - 0x84 {
                    items.push(self.pop()?);
                }
                self.push(listed(Size { values: 1, ..Size::default() }, &items))?;
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(keyed(Size { values: 1, ..Size::default() }, &items))?;
            }
            b'a' => {
                let item = self.pop()?;
                let top = self.top()?;
                top.size = listed(top.size, &[item]);
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                let top = self.top()?;
                top.size = listed(top.size, &items);
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                let top = self.top()?;
                top.size = keyed(top.size, &[key, value]);
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                let top = self.top()?;
                top.size = keyed(top.size, &items);
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = *self.top()?;
                self.copy(top)?;
            }
            b'g' => {
                let place = place(r)?;
                self.get(place)?;
            }
            b'h' => {
                let [place] = array(r)?;
                self.get(u32::from(place))?;
            }
            b'j' => {
                let place = u32::from_le_bytes(array(r)?);
                self.get(place)?;
            }
            b'p' => {
                let place = place(r)?;
                self.put(place)?;
            }
            b'q' => {
                let [place] = array(r)?;
                self.put(u32::from(place))?;
            }
            b'r' => {
                let place = u32::from_le_bytes(array(r)?);
                self.put(place)?;
            }
            0x94 => self.put(self.memo.len() as u32)?,
            b'c' => {
                let len = line(r, self.budget)? + line(r, self.budget)?;
                self.push(Size::scalar(len))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.push(Size::scalar(name.size.bytes.saturating_add(module.size.bytes)))?;
            }
            b'P' => {
                let len = line(r, self.budget)?;
                self.push(Size::scalar(len))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Size::scalar(id.size.bytes))?;
            }
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                // A tensor, a name, or what the arguments hold; pairs become keys and values, which are then names.
                let Size { values, bytes, longest, leaves, names } = arguments.size;
                let renamed = names.saturating_add(leaves.saturating_mul(longest + 1));
                let bytes = bytes.saturating_add(callable.size.bytes);
                self.push(Size { values: values + 1, bytes, longest, leaves: leaves + 1, names: renamed })?;
            }
            0x81 | 0x92 => {
                for _ in 0..if op == 0x81 { 1 } else { 2 } {
                    self.pop()?;
                }
                let class = self.pop()?;
                self.push(Size::scalar(class.size.bytes))?;
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.pop()?);
                let mut built = object.size.with(state.size, 0);
                built.leaves += 1;
                let slot = Slot { size: built, memo: object.memo };
                if let Some(place) = object.memo {
                    self.budget.take(built.copied().saturating_add(MEMO_BYTES))?;
                    self.memo.insert(place, slot);
                }
                self.push(built)?;
            }
            other => return Err(format!("expected a pickle, found the opcode 0x{other:02x}")),
        }
        Ok(true)
    }

    fn push(&mut self, size: Size) -> Result<(), String> {
        self.budget.take(VALUE_BYTES)?;
        self.stack.push(Slot { size, memo: None });
        Ok(())
    }

    fn number(&mut self, r: &mut impl BufRead, bytes: u64) -> Result<(), String> {
        skip(r, bytes)?;
        self.push(Size::scalar(0))
    }

    /// A string, whose buffer doubles while it grows.
    fn string(&mut self, r: &mut impl BufRead, len: u64) -> Result<(), String> {
        skip(r, len)?;
        self.budget.take(2 * len)?;
        self.push(Size::scalar(len))
    }

    fn pop(&mut self) -> Result<Slot, String> {
        let is_marked = self.marks.last() == Some(&self.stack.len());
        self.stack
            .pop()
            .filter(|_| !is_marked)
            .ok_or_else(|| "expected a value on the pickle's stack, found none".into())
    }

    fn top(&mut self) -> Result<&mut Slot, String> {
        let is_marked = self.marks.last() == Some(&self.stack.len());
        let top = self.stack.last_mut().filter(|_| !is_marked);
        top.ok_or_else(|| "expected a value on the pickle's stack, found none".into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Slot>, String> {
        match self.marks.pop().filter(|mark| *mark <= self.stack.len()) {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err("expected a mark on the pickle's stack, found none".to_owned()),
        }
    }

    fn copy(&mut self, slot: Slot) -> Result<(), String> {
        self.budget.take(slot.size.copied())?;
        self.push(slot.size)?;
        self.top()?.memo = slot.memo;
        Ok(())
    }

    fn get(&mut self, place: u32) -> Result<(), String> {
        let slot = *self.memo.get(&place).ok_or_else(|| format!("expected the memo's place {place}, found none"))?;
        self.copy(slot)
    }

    fn put(&mut self, place: u32) -> Result<(), String> {
        let top = self.top()?;
        top.memo = Some(place);
        let slot = *top;
        self.budget.take(slot.size.copied().saturating_add(MEMO_BYTES))?;
        self.memo.insert(place, slot);
        Ok(())
    }
}

fn listed(list: Size, items: &[Slot]) -> Size {
    items.iter().fold(list, |list, item| list.with(item.size, NUMBER_BYTES))
}

fn keyed(table: Size, items: &[Slot]) -> Size {
    items.chunks(2).fold(table, |table, pair| {
        let key = pair[0].size;
        let table = Size { bytes: table.bytes.saturating_add(key.bytes), ..table };
        pair.get(1).map_or(table, |value| table.with(value.size, key.longest))
    })
}

fn array<const N: usize>(r: &mut impl Read) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    r.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn skip(r: &mut impl Read, bytes: u64) -> Result<(), String> {
    match io::copy(&mut r.take(bytes), &mut io::sink()).map_err(|error| error.to_string())? {
        found if found == bytes => Ok(()),
        found => Err(format!("expected {bytes} bytes, found {found} to the end of the pickle")),
    }
}

/// The length of a line, whose buffer doubles while it grows, without its end.
fn line(r: &mut impl BufRead, budget: &mut Budget) -> Result<u64, String> {
    let len = r.skip_until(b'\n').map_err(|error| error.to_string())? as u64;
    budget.take(2 * len)?;
    Ok(len)
}

/// A place of the memo in decimal. A number that is none is for the crate to refuse.
fn place(r: &mut impl BufRead) -> Result<u32, String> {
    let mut text = String::new();
    r.take(2 * NUMBER_BYTES).read_line(&mut text).map_err(|error| error.to_string())?;
    let number = text.strip_suffix('\n').and_then(|number| number.trim_end_matches('\r').parse().ok());
    number.ok_or_else(|| format!("expected a place of the memo, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(pickle: &[u8]) -> Result<(), String> {
        scan(&mut &pickle[..], &mut Budget::share(pickle.len() as u64, 2))
    }

    #[test]
    fn a_program_whose_values_are_many_is_refused() {
        let too_much = "expected contents that take at most";
        for (attack, pickle) in [
            ("values of a byte", [&b"("[..], &[b'N'; 1 << 20], b"t."].concat()),
            ("copies that double", [&b"K\x01"[..], &b"2\x86".repeat(64), b"."].concat()),
            (
                "copies in the memo",
                [&b"(N"[..], &b"Nq\x00".repeat(40), &b"tq\x00h\x00h\x00t".repeat(60), b"."].concat(),
            ),
            ("many names under a long key", {
                let key = [&b"}X\x00\x00\x01\x00"[..], &[b'k'; 1 << 16]].concat();
                [key, b"(".to_vec(), b"N".repeat(1 << 11), b"ts.".to_vec()].concat()
            }),
            ("pairs that become keys", {
                let key = [&b"(X\x00\x00\x01\x00"[..], &[b'k'; 1 << 16]].concat();
                [b"c\na\n".to_vec(), key, b"(".to_vec(), b"N".repeat(1 << 11), b"ttR.".to_vec()].concat()
            }),
        ] {
            let refused = scanned(&pickle).expect_err(attack);
            // A stack that does not fit is refused as well, but for another reason.
            assert!(refused.starts_with(too_much) || attack == "copies in the memo", "{attack}: {refused}");
        }
    }

    #[test]
    fn a_file_of_before_pytorch_1_6_is_five_pickles() {
        let mut file = [&b"\x80\x02\x8a\x0a"[..], LEGACY_MAGIC[0], b"."].concat();
        file.extend(b"\x80\x02M\xe9\x03.\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u.");
        let tensors = [&b"\x80\x02("[..], &b"N".repeat(1 << 20), b"t."].concat();
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("pytorch_model.bin");
        let checked = |tensors: &[u8], order: &[u8]| {
            std::fs::write(&path, [&file, tensors, order].concat()).expect("written");
            check(&path)
        };
        checked(b"\x80\x02}.", b"\x80\x02].0123").expect("a table without tensors");
        assert!(checked(&tensors, b"\x80\x02].").expect_err("many").starts_with("expected contents that take at most"));
        assert!(checked(b"\x80\x02}.", &tensors).expect_err("many").starts_with("expected contents that take at most"));
        assert_eq!(checked(b"\x80\x02}.", b""), Err("failed to fill whole buffer".to_owned()));
    }

    #[test]
    fn what_is_no_pickle_is_refused_before_the_crate_reads_it() {
        for (pickle, expected) in [
            (&b"\x80\x02"[..], "failed to fill whole buffer"),
            (b"X\xff\xff\xff\xffabc", "expected 4294967295 bytes, found 3 to the end of the pickle"),
            (b"t.", "expected a mark on the pickle's stack, found none"),
            (b"(.", "expected a value on the pickle's stack, found none"),
            (b"h\x07.", "expected the memo's place 7, found none"),
            (b"?", "expected a pickle, found the opcode 0x3f"),
        ] {
            assert_eq!(scanned(pickle), Err(expected.to_owned()));
        }
        scanned(b"(dp0\nVn\np1\nI-3\nsVf\np2\nF2.5\ns.").expect("protocol 0");
    }
}
