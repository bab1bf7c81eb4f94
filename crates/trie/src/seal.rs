//! Hashing what a change made dirty.

use crate::node::{Link, Node};
use alloy_primitives::keccak256;
use alloy_trie::{
    TrieMask,
    nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode},
};
use nybbles::Nibbles;
use rayon::prelude::*;

/// What sealing found.
#[derive(Debug, Default)]
pub(crate) struct SealReport {
    /// Nodes with an entry of their own.
    pub(crate) stored: Vec<(Nibbles, Vec<u8>)>,
    /// Paths whose entries are to go, because the nodes there are part of their parents now.
    pub(crate) embedded: Vec<Nibbles>,
}

/// Hashes what is dirty at and below `link`; the reference by which a parent holds it. That of a root is always a hash.
pub(crate) fn seal(link: &mut Link, path: Nibbles, report: &mut SealReport) -> Option<RlpNode> {
    let resolved = match link {
        Link::Empty => return None,
        Link::Reference(reference) => return Some(reference.clone()),
        Link::Node(resolved) => &mut **resolved,
    };
    if let Some(reference) = &resolved.reference {
        return Some(reference.clone());
    }
    let mut rlp = Vec::new();
    let sealed = match &mut resolved.node {
        Node::Leaf { key, value } => {
            // The rest of the key takes at most 33 bytes; two lengths before it, one before the value.
            rlp.reserve(value.len() + 40);
            LeafNodeRef::new(key, value).rlp(&mut rlp)
        }
        Node::Extension { key, child } => {
            let child = seal(child, path.join(key), report).unwrap_or_default();
            ExtensionNodeRef::new(key, child.as_slice()).rlp(&mut rlp)
        }
        Node::Branch(children) => {
            let mut stack: [RlpNode; 16] = Default::default();
            let mut count = 0;
            let mut mask = TrieMask::default();
            for (nibble, child) in (0u8..).zip(children.iter_mut()) {
                let mut child_path = path;
                child_path.push(nibble);
                if let Some(child) = seal(child, child_path, report) {
                    stack[count] = child;
                    count += 1;
                    mask.set_bit(nibble);
                }
            }
            rlp.reserve(count * 33 + 20);
            BranchNodeRef::new(&stack[..count], mask).rlp(&mut rlp)
        }
    };
    let is_root = path.is_empty();
    // A root that is short enough to be embedded has no parent to be embedded in.
    let sealed =
        if is_root && rlp.len() < 32 { RlpNode::word_rlp(&keccak256(&rlp)) } else { sealed };
    if is_root || rlp.len() >= 32 {
        resolved.stored = true;
        report.stored.push((path, rlp));
    } else if std::mem::take(&mut resolved.stored) {
        report.embedded.push(path);
    }
    resolved.reference = Some(sealed.clone());
    Some(sealed)
}

/// Seals the subtries below a root branch, so that sealing the root has only that left to do.
pub(crate) fn seal_children_in_parallel(root: &mut Link, report: &mut SealReport) {
    let Some(children) = root.branch() else { return };
    let reports: Vec<SealReport> = children
        .par_iter_mut()
        .enumerate()
        .map(|(nibble, child)| {
            let mut report = SealReport::default();
            let mut path = Nibbles::new();
            path.push(nibble as u8);
            seal(child, path, &mut report);
            report
        })
        .collect();
    for mut part in reports {
        report.stored.append(&mut part.stored);
        report.embedded.append(&mut part.embedded);
    }
}
