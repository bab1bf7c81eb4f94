//! What is to be written to the database file but is not in it yet, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What is unwritten is found again by pieces of the file of this many bytes, redb's smallest page.
const PIECE_BYTES: u64 = 4_096;

/// What is done to the file.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write { offset: u64, data: Arc<[u8]> },
    SetLength(u64),
    Sync,
}

/// Steps that wait, first in, first out, and what the file would hold if they were done.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    steps: VecDeque<Step>,
    /// How many steps were done before the first of these: steps are known by their number from the beginning.
    done: u64,
    pieces: BTreeMap<u64, Steps>,
    /// The file's length after all of these, if one of them sets it.
    length: Option<u64>,
    /// The least length that one of these sets. What is in the file beyond it is not to be seen any more.
    cut: Option<u64>,
    bytes: usize,
}

/// The numbers of the first and last step that make up a piece.
#[derive(Debug, Clone, Copy)]
struct Steps {
    first: u64,
    last: u64,
    /// The first writes all of it. If not, what the file has shows through where none of them writes.
    is_whole: bool,
}

fn pieces_of(offset: u64, length: usize) -> std::ops::Range<u64> {
    offset / PIECE_BYTES..(offset + length as u64).div_ceil(PIECE_BYTES)
}

impl Unwritten {
    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The file's length when all is written, `None` if it stays as it is.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(crate) fn first(&self) -> Option<&Step> {
        self.steps.front()
    }

    /// Within the file's length, as redb writes.
    pub(crate) fn push_write(&mut self, offset: u64, data: &[u8]) {
        let number = self.next_number();
        let end = offset + data.len() as u64;
        for piece in pieces_of(offset, data.len()) {
            let (start, piece_end) = (piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES);
            let is_whole = offset <= start && piece_end <= end;
            let written = Steps { first: number, last: number, is_whole };
            self.pieces
                .entry(piece)
                .and_modify(|steps| {
                    *steps = if is_whole { written } else { Steps { last: number, ..*steps } };
                })
                .or_insert(written);
        }
        self.bytes += data.len();
        self.steps.push_back(Step::Write { offset, data: data.into() });
    }

    pub(crate) fn push_length(&mut self, length: u64) {
        let number = self.next_number();
        self.pieces.split_off(&length.div_ceil(PIECE_BYTES));
        if !length.is_multiple_of(PIECE_BYTES)
            && let Some(steps) = self.pieces.get_mut(&(length / PIECE_BYTES))
        {
            steps.last = number;
        }
        self.length = Some(length);
        self.cut = Some(self.cut.map_or(length, |cut| cut.min(length)));
        self.steps.push_back(Step::SetLength(length));
    }

    pub(crate) fn push_sync(&mut self) {
        self.steps.push_back(Step::Sync);
    }

    fn next_number(&self) -> u64 {
        self.done + self.steps.len() as u64
    }

    /// The first step was done.
    pub(crate) fn pop(&mut self) {
        let number = self.done;
        let Some(step) = self.steps.pop_front() else {
            return;
        };
        self.done += 1;
        match step {
            Step::Write { offset, data } => {
                self.bytes -= data.len();
                for piece in pieces_of(offset, data.len()) {
                    self.forget(piece, number);
                }
            }
            Step::SetLength(length) => {
                self.forget(length / PIECE_BYTES, number);
                let lengths = self.steps.iter().filter_map(|step| match step {
                    Step::SetLength(length) => Some(*length),
                    Step::Write { .. } | Step::Sync => None,
                });
                self.cut = lengths.min();
            }
            Step::Sync => {}
        }
        if self.cut.is_none() {
            self.length = None;
        }
    }

    /// The piece is in the file, if nothing changes it after the step of this number.
    fn forget(&mut self, piece: u64, number: u64) {
        if self.pieces.get(&piece).is_some_and(|steps| steps.last == number) {
            self.pieces.remove(&piece);
        }
    }

    /// Whether all of these bytes are in the file as they are to be.
    pub(crate) fn leaves(&self, offset: u64, length: usize) -> bool {
        self.cut.is_none_or(|cut| offset + length as u64 <= cut)
            && self.pieces.range(pieces_of(offset, length)).next().is_none()
    }

    /// Makes of what `read` finds in the file at `offset` what is to be there. It is not asked if all of it is unwritten.
    pub(crate) fn read<E>(
        &self,
        offset: u64,
        out: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let pieces = pieces_of(offset, out.len());
        let is_whole = |steps: &Steps| steps.is_whole && steps.first >= self.done;
        let whole = self.pieces.range(pieces.clone()).filter(|(_, steps)| is_whole(steps)).count();
        let is_aligned =
            offset.is_multiple_of(PIECE_BYTES) && (out.len() as u64).is_multiple_of(PIECE_BYTES);
        if !is_aligned || (whole as u64) < pieces.end - pieces.start {
            read(out)?;
            if let Some(cut) = self.cut {
                let shown = cut.saturating_sub(offset).min(out.len() as u64);
                out[shown as usize..].fill(0);
            }
        }
        for (piece, steps) in self.pieces.range(pieces) {
            let start = (piece * PIECE_BYTES).max(offset);
            let end = ((piece + 1) * PIECE_BYTES).min(offset + out.len() as u64);
            let part = &mut out[(start - offset) as usize..(end - offset) as usize];
            // Steps before the first that is left are in the file.
            for number in steps.first.max(self.done)..=steps.last {
                match &self.steps[(number - self.done) as usize] {
                    Step::Write { offset, data } => overlay(part, start, *offset, data),
                    Step::SetLength(length) => {
                        let shown = length.saturating_sub(start).min(part.len() as u64);
                        part[shown as usize..].fill(0);
                    }
                    Step::Sync => {}
                }
            }
        }
        Ok(())
    }
}

/// Copies what of `data`, which begins at `offset`, lies in `out`, which begins at `start`.
fn overlay(out: &mut [u8], start: u64, offset: u64, data: &[u8]) {
    let from = start.max(offset);
    let to = (start + out.len() as u64).min(offset + data.len() as u64);
    if from < to {
        out[(from - start) as usize..(to - start) as usize]
            .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE_BYTES: u64 = 6 * PIECE_BYTES;

    #[derive(Debug, Clone)]
    enum Act {
        Write {
            offset: u64,
            length: u64,
        },
        SetLength(u64),
        Sync,
        /// The next steps reach the file.
        Do(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => (0u64..6, 1u64..4).prop_map(|(piece, pieces)| Act::Write {
                offset: piece * PIECE_BYTES,
                length: pieces * PIECE_BYTES,
            }),
            2 => (0..FILE_BYTES, 1..2 * PIECE_BYTES)
                .prop_map(|(offset, length)| Act::Write { offset, length }),
            2 => (0u64..7).prop_map(|pieces| Act::SetLength(pieces * PIECE_BYTES)),
            1 => (0..FILE_BYTES).prop_map(Act::SetLength),
            1 => Just(Act::Sync),
            4 => (1usize..4).prop_map(Act::Do),
        ];
        proptest::collection::vec(act, 1..60)
    }

    fn do_step(file: &mut Vec<u8>, step: &Step) {
        match step {
            Step::Write { offset, data } => {
                file[*offset as usize..][..data.len()].copy_from_slice(data);
            }
            Step::SetLength(length) => file.resize(*length as usize, 0),
            Step::Sync => {}
        }
    }

    proptest! {
        /// `expected` has every step at once, `file` only those that were done.
        #[test]
        fn reads_find_what_the_file_would_hold_if_all_were_written(
            acts in acts(), reads in proptest::collection::vec((0..FILE_BYTES, 1..3 * PIECE_BYTES), 8),
        ) {
            let mut expected = vec![0xee; FILE_BYTES as usize];
            let mut file = expected.clone();
            let mut unwritten = Unwritten::default();
            for (fill, act) in (1u8..).zip(&acts) {
                match act {
                    Act::Write { offset, length } => {
                        let end = (offset + length).min(expected.len() as u64);
                        if *offset < end {
                            let data = vec![fill; (end - offset) as usize];
                            expected[*offset as usize..end as usize].copy_from_slice(&data);
                            unwritten.push_write(*offset, &data);
                        }
                    }
                    Act::SetLength(length) => {
                        expected.resize(*length as usize, 0);
                        unwritten.push_length(*length);
                    }
                    Act::Sync => unwritten.push_sync(),
                    Act::Do(steps) => {
                        for _ in 0..*steps {
                            if let Some(step) = unwritten.first().cloned() {
                                do_step(&mut file, &step);
                                unwritten.pop();
                            }
                        }
                    }
                }
                let length = unwritten.length().unwrap_or(file.len() as u64);
                prop_assert_eq!(length, expected.len() as u64);
                for &(offset, bytes) in &reads {
                    let end = (offset + bytes).min(length);
                    if offset >= end {
                        continue;
                    }
                    let from_file = |out: &mut [u8]| {
                        out.fill(0);
                        let there = file.get(offset as usize..).unwrap_or_default();
                        let there = &there[..there.len().min(out.len())];
                        out[..there.len()].copy_from_slice(there);
                        Ok::<_, ()>(())
                    };
                    let mut out = vec![0xdd; (end - offset) as usize];
                    unwritten.read(offset, &mut out, from_file).expect("it reads");
                    prop_assert!(out == expected[offset as usize..end as usize], "at {}, {} bytes", offset, end - offset);
                    if unwritten.leaves(offset, out.len()) {
                        from_file(&mut out).expect("it reads");
                        prop_assert!(out == expected[offset as usize..end as usize], "left alone at {}", offset);
                    }
                }
            }
            while let Some(step) = unwritten.first().cloned() {
                do_step(&mut file, &step);
                unwritten.pop();
            }
            prop_assert_eq!(unwritten.bytes(), 0);
            prop_assert!(unwritten.pieces.is_empty() && file == expected);
        }
    }
}
