//! One trie, of which only the nodes on visited paths are in memory.
//!
//! A node is in one of three conditions: a *reference* (its hash, or its short RLP, as the parent
//! holds it), *clean* (decoded, and its reference still valid) or *dirty* (changed since, to be
//! hashed anew). Inserting and removing turn references into clean nodes and clean nodes into dirty
//! ones; sealing makes dirty ones clean and reports them. They stay in memory for the next change.
//!
//! Deleted nodes need care because nodes are stored by path: whenever a node stops existing at its
//! path (a leaf is removed, a branch collapses into its last child and that child moves up), the
//! path goes on the `vacated` list. A node that becomes shorter than 32 bytes moves into its
//! parent, which vacates its path too. Only paths with a stored entry are reported.

use crate::{
    NodeDefect, TrieError, TrieId,
    node::{EMPTY_NODE, Link, Node, Resolved, decode, fork, hash_in},
    seal::{SealReport, seal, seal_children_in_parallel},
};
use alloy_primitives::{B256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, nodes::RlpNode};
use nybbles::Nibbles;
use rayon::prelude::*;
use std::collections::BTreeMap;

mod leaves;

/// From how many changed leaves on the sixteen subtries below a root branch are read, changed and
/// hashed in parallel. Below it, waking threads costs more than the work (a few µs a leaf).
const PARALLEL_LEAVES: usize = 256;

/// Where one trie reads its nodes: the part of a [`crate::NodeReader`] that concerns one trie.
pub trait NodeSource {
    /// Why a read failed.
    type Error;

    /// The RLP of the node at `path`, `None` where there is none.
    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, Self::Error>;
}

impl<F, E> NodeSource for F
where
    F: Fn(&Nibbles) -> Result<Option<Vec<u8>>, E>,
{
    type Error = E;

    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, E> {
        self(path)
    }
}

/// What a leaf is set to.
pub trait LeafValue {
    /// The value, not empty, in place of what the leaf has now, if it is there.
    ///
    /// # Errors
    /// If the new value follows from the present one, and that does not decode.
    fn value(&self, present: Option<&[u8]>) -> Result<Vec<u8>, NodeDefect>;
}

impl LeafValue for Vec<u8> {
    fn value(&self, _present: Option<&[u8]>) -> Result<Vec<u8>, NodeDefect> {
        Ok(self.clone())
    }
}

/// What became of the stored nodes of one trie, by path: the new RLP, or `None` to delete.
pub type NodeUpdates = BTreeMap<Nibbles, Option<Vec<u8>>>;

/// A Merkle-Patricia trie over 32-byte keys that reads the nodes it needs from a [`NodeSource`],
/// which must be the same trie's at every call.
#[derive(Debug)]
pub struct SparseTrie {
    trie: TrieId,
    root: Link,
    /// As of the last sealing.
    root_hash: B256,
    vacated: Vec<Nibbles>,
    changed_leaves: usize,
    round: u32,
    added: usize,
}

impl SparseTrie {
    /// The trie with this root hash.
    pub fn new(trie: TrieId, root: B256) -> Self {
        let link = if root == EMPTY_ROOT_HASH {
            Link::Empty
        } else {
            Link::Reference(RlpNode::word_rlp(&root))
        };
        Self {
            trie,
            root: link,
            root_hash: root,
            vacated: Vec::new(),
            changed_leaves: 0,
            round: 0,
            added: 0,
        }
    }

    /// The trie whose root node is whatever the source has at the empty path; empty if nothing.
    ///
    /// # Errors
    /// When the root node cannot be read.
    pub fn from_stored_root<S: NodeSource>(
        trie: TrieId,
        source: &S,
    ) -> Result<Self, TrieError<S::Error>> {
        let path = Nibbles::new();
        let node = source.node(&path).map_err(|source| TrieError::read(trie, path, source))?;
        let root = match node.map(keccak256) {
            None => EMPTY_ROOT_HASH,
            Some(EMPTY_ROOT_HASH) => {
                return Err(TrieError::damaged(trie, path, NodeDefect::Shape(EMPTY_NODE)));
            }
            Some(root) => root,
        };
        Ok(Self::new(trie, root))
    }

    /// The root hash when it was sealed last, or at the start.
    pub const fn root(&self) -> B256 {
        self.root_hash
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When a node on the way cannot be read or is damaged.
    pub fn get<S: NodeSource>(
        &mut self,
        source: &S,
        key: B256,
    ) -> Result<Option<&[u8]>, TrieError<S::Error>> {
        let key = Nibbles::unpack(key);
        let mut walk = Walk::new(self.trie, source, self.round);
        let mut link = &mut self.root;
        let mut depth = 0;
        loop {
            let resolved = walk.resolve(link, || key.slice(..depth))?;
            self.added += std::mem::take(&mut walk.added);
            match resolved.map(|resolved| &mut resolved.node) {
                None => return Ok(None),
                Some(Node::Leaf { key: rest, value }) => {
                    return Ok((key.slice(depth..) == *rest).then_some(value.as_slice()));
                }
                Some(Node::Extension { key: segment, child }) => {
                    if !key.slice(depth..).starts_with(segment) {
                        return Ok(None);
                    }
                    depth += segment.len();
                    link = child;
                }
                Some(Node::Branch(children)) => {
                    link = &mut children[usize::from(key.get_unchecked(depth))];
                    depth += 1;
                }
            }
        }
    }

    /// Sets `key` to `value`, which must not be empty: absence is [`Self::remove`].
    ///
    /// # Errors
    /// When a node on the way cannot be read or is damaged; the trie must not be used further.
    pub fn insert<S: NodeSource>(
        &mut self,
        source: &S,
        key: B256,
        value: Vec<u8>,
    ) -> Result<(), TrieError<S::Error>> {
        self.change(source, &(key, Some(value)))
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// When a node on the way cannot be read or is damaged; the trie must not be used further.
    pub fn remove<S: NodeSource>(
        &mut self,
        source: &S,
        key: B256,
    ) -> Result<(), TrieError<S::Error>> {
        self.change(source, &(key, None::<Vec<u8>>))
    }

    fn change<S: NodeSource, V: LeafValue>(
        &mut self,
        source: &S,
        change: &(B256, Option<V>),
    ) -> Result<(), TrieError<S::Error>> {
        let mut walk = Walk::new(self.trie, source, self.round);
        walk.change(&mut self.root, 0, change)?;
        walk.end(self);
        Ok(())
    }

    /// Sets and removes (`None`) many keys, each once, ascending.
    ///
    /// # Errors
    /// When a node on the way cannot be read or is damaged; the trie must not be used further.
    pub fn update<S, V>(
        &mut self,
        source: &S,
        changes: &[(B256, Option<V>)],
    ) -> Result<(), TrieError<S::Error>>
    where
        S: NodeSource + Sync,
        S::Error: Send,
        V: LeafValue + Sync,
    {
        debug_assert!(changes.is_sorted_by(|a, b| a.0 < b.0), "ascending, each key once");
        let mut rest = changes;
        if let [first, middle @ .., last] = changes
            && changes.len() >= PARALLEL_LEAVES
        {
            // Of a trie that was empty these two make a root with branches, if anything does.
            self.change(source, first)?;
            self.change(source, last)?;
            rest = middle;
            if self.root.branch().is_some() {
                return self.update_children_in_parallel(source, middle);
            }
        }
        let mut walk = Walk::new(self.trie, source, self.round);
        for change in rest {
            walk.change(&mut self.root, 0, change)?;
        }
        walk.end(self);
        Ok(())
    }

    fn update_children_in_parallel<S, V>(
        &mut self,
        source: &S,
        mut changes: &[(B256, Option<V>)],
    ) -> Result<(), TrieError<S::Error>>
    where
        S: NodeSource + Sync,
        S::Error: Send,
        V: LeafValue + Sync,
    {
        let (trie, round) = (self.trie, self.round);
        let Some(children) = self.root.branch() else { return Ok(()) };
        let jobs: Vec<_> = (0u8..)
            .zip(children)
            .map(|(nibble, child)| {
                let end = changes.partition_point(|(key, _)| key[0] >> 4 <= nibble);
                let (part, others) = changes.split_at(end);
                changes = others;
                (child, part)
            })
            .collect();
        let walks: Vec<Walk<'_, S>> = jobs
            .into_par_iter()
            .map(|(child, part)| {
                let mut walk = Walk::new(trie, source, round);
                for change in part {
                    walk.change(child, 1, change)?;
                }
                Ok(walk)
            })
            .collect::<Result<_, TrieError<S::Error>>>()?;
        let mut all = Walk::new(trie, source, round);
        for walk in walks {
            all.join(walk);
        }
        if all.changed_leaves > 0 {
            all.settle_branch(&mut self.root, Nibbles::new())?;
        }
        all.end(self);
        Ok(())
    }

    /// Hashes the dirty nodes: the new root hash, and what became of the stored nodes.
    pub fn seal(&mut self) -> (B256, NodeUpdates) {
        let mut report = SealReport::default();
        if std::mem::take(&mut self.changed_leaves) >= PARALLEL_LEAVES {
            seal_children_in_parallel(&mut self.root, &mut report);
        }
        let reference = seal(&mut self.root, Nibbles::new(), &mut report);
        // A root is referred to by its hash always.
        self.root_hash =
            reference.and_then(|reference| reference.as_hash()).unwrap_or(EMPTY_ROOT_HASH);
        self.round += 1;

        let mut updates: NodeUpdates =
            self.vacated.drain(..).chain(report.embedded).map(|path| (path, None)).collect();
        updates.extend(report.stored.into_iter().map(|(path, rlp)| (path, Some(rlp))));
        (self.root_hash, updates)
    }

    /// At most how many nodes have come into memory since this was asked last.
    pub(crate) fn take_added(&mut self) -> usize {
        std::mem::take(&mut self.added)
    }

    /// In which round of changes it is. Rounds end with sealing.
    pub(crate) const fn round(&self) -> u32 {
        self.round
    }

    /// Goes on in this round, so that the rounds of several tries can be compared.
    pub(crate) const fn set_round(&mut self, round: u32) {
        self.round = round;
    }

    /// Adds up the nodes in memory by the round in which they were visited last.
    pub(crate) fn count(&self, add: &mut impl FnMut(u32)) {
        self.root.count(add);
    }

    /// Drops the nodes that were not visited since `round` from memory. Whether any are left.
    pub(crate) fn forget_before(&mut self, round: u32) -> bool {
        self.root.forget_before(round);
        matches!(self.root, Link::Node(_))
    }
}

/// Reads nodes on demand while a part of a trie changes, and remembers which paths became vacant.
struct Walk<'s, S> {
    trie: TrieId,
    source: &'s S,
    round: u32,
    vacated: Vec<Nibbles>,
    changed_leaves: usize,
    /// Nodes that came into memory.
    added: usize,
}

impl<'s, S: NodeSource> Walk<'s, S> {
    const fn new(trie: TrieId, source: &'s S, round: u32) -> Self {
        Self { trie, source, round, vacated: Vec::new(), changed_leaves: 0, added: 0 }
    }

    fn join(&mut self, mut other: Self) {
        self.vacated.append(&mut other.vacated);
        self.changed_leaves += other.changed_leaves;
        self.added += other.added;
    }

    fn end(mut self, trie: &mut SparseTrie) {
        trie.vacated.append(&mut self.vacated);
        trie.changed_leaves += self.changed_leaves;
        trie.added += self.added;
    }

    fn damaged(&self, path: Nibbles, defect: NodeDefect) -> TrieError<S::Error> {
        TrieError::damaged(self.trie, path, defect)
    }

    fn dirty(&mut self, node: Node) -> Link {
        self.added += 1;
        Link::dirty(node, false, self.round)
    }

    fn vacate(&mut self, path: Nibbles, stored: bool) {
        if stored {
            self.vacated.push(path);
        }
    }

    /// The node behind `link`, read and decoded if it was not yet; `None` if there is none.
    fn resolve<'l>(
        &mut self,
        link: &'l mut Link,
        path: impl FnOnce() -> Nibbles,
    ) -> Result<Option<&'l mut Resolved>, TrieError<S::Error>> {
        if let Link::Reference(reference) = link {
            let (node, stored) = self.read(reference, path())?;
            let reference = Some(std::mem::take(reference));
            self.added += 1;
            *link = Link::Node(Box::new(Resolved { node, reference, stored, round: self.round }));
        }
        Ok(match link {
            Link::Node(resolved) => {
                resolved.round = self.round;
                Some(resolved)
            }
            Link::Empty | Link::Reference(_) => None,
        })
    }

    /// The node at `path`, and whether it has an entry of its own there.
    fn read(
        &self,
        reference: &RlpNode,
        path: Nibbles,
    ) -> Result<(Node, bool), TrieError<S::Error>> {
        let Some(expected) = hash_in(reference) else {
            let node = decode(reference, path.len());
            return Ok((node.map_err(|defect| self.damaged(path, defect))?, false));
        };
        let rlp = self
            .source
            .node(&path)
            .map_err(|source| TrieError::read(self.trie, path, source))?
            .ok_or_else(|| self.damaged(path, NodeDefect::Missing { expected }))?;
        let actual = keccak256(&rlp);
        if actual != expected {
            return Err(self.damaged(path, NodeDefect::WrongHash { expected, actual }));
        }
        let node = decode(&rlp, path.len()).map_err(|defect| self.damaged(path, defect))?;
        Ok((node, true))
    }

    /// Changes one key below `link`, which stands `depth` nibbles deep.
    fn change<V: LeafValue>(
        &mut self,
        link: &mut Link,
        depth: usize,
        (key, value): &(B256, Option<V>),
    ) -> Result<(), TrieError<S::Error>> {
        let key = Nibbles::unpack(key);
        let changed = match value {
            Some(value) => self.insert(link, depth, &key, value)?,
            None => self.remove(link, depth, &key)?,
        };
        self.changed_leaves += usize::from(changed);
        Ok(())
    }

    fn value_of<V: LeafValue>(
        &self,
        key: &Nibbles,
        value: &V,
        present: Option<&[u8]>,
    ) -> Result<Vec<u8>, TrieError<S::Error>> {
        let value = value.value(present).map_err(|defect| self.damaged(*key, defect))?;
        debug_assert!(!value.is_empty(), "an empty value means absence in a Merkle-Patricia trie");
        Ok(value)
    }

    /// Sets `key` below `link`, which stands `depth` nibbles deep. Whether anything changed.
    fn insert<V: LeafValue>(
        &mut self,
        link: &mut Link,
        depth: usize,
        key: &Nibbles,
        new: &V,
    ) -> Result<bool, TrieError<S::Error>> {
        let rest = key.slice(depth..);
        let Some(resolved) = self.resolve(link, || key.slice(..depth))? else {
            let value = self.value_of(key, new, None)?;
            *link = self.dirty(Node::Leaf { key: rest, value });
            return Ok(true);
        };
        let changed = match &mut resolved.node {
            Node::Leaf { key: leaf_key, value } => {
                let common = rest.common_prefix_length(leaf_key);
                if common < rest.len() {
                    let new_value = self.value_of(key, new, None)?;
                    let old = self.dirty(Node::Leaf {
                        key: leaf_key.slice(common + 1..),
                        value: std::mem::take(value),
                    });
                    let new =
                        self.dirty(Node::Leaf { key: rest.slice(common + 1..), value: new_value });
                    resolved.node = fork(
                        rest.slice(..common),
                        self.round,
                        (leaf_key.get_unchecked(common), old),
                        (rest.get_unchecked(common), new),
                    );
                    true
                } else {
                    let new_value = self.value_of(key, new, Some(value))?;
                    let changed = *value != new_value;
                    *value = new_value;
                    changed
                }
            }
            Node::Extension { key: segment, child } => {
                let common = rest.common_prefix_length(segment);
                if common == segment.len() {
                    self.insert(child, depth + common, key, new)?
                } else {
                    let new_value = self.value_of(key, new, None)?;
                    let child = std::mem::take(child);
                    // The child keeps its path; what stands between it and the fork shrinks.
                    let old = if common + 1 == segment.len() {
                        child
                    } else {
                        let key = segment.slice(common + 1..);
                        self.dirty(Node::Extension { key, child })
                    };
                    let new =
                        self.dirty(Node::Leaf { key: rest.slice(common + 1..), value: new_value });
                    resolved.node = fork(
                        rest.slice(..common),
                        self.round,
                        (segment.get_unchecked(common), old),
                        (rest.get_unchecked(common), new),
                    );
                    true
                }
            }
            Node::Branch(children) => {
                let child = &mut children[usize::from(rest.get_unchecked(0))];
                self.insert(child, depth + 1, key, new)?
            }
        };
        if changed {
            link.mark_dirty();
        }
        Ok(changed)
    }

    /// Removes `key` below `link`, which stands `depth` nibbles deep. Whether it was there.
    fn remove(
        &mut self,
        link: &mut Link,
        depth: usize,
        key: &Nibbles,
    ) -> Result<bool, TrieError<S::Error>> {
        let path = key.slice(..depth);
        let Some(resolved) = self.resolve(link, || path)? else {
            return Ok(false);
        };
        let rest = key.slice(depth..);
        let stored = resolved.stored;
        match &mut resolved.node {
            Node::Leaf { key: leaf_key, .. } => {
                if rest != *leaf_key {
                    return Ok(false);
                }
                self.vacate(path, stored);
                *link = Link::Empty;
            }
            Node::Extension { key: segment, child } => {
                if !rest.starts_with(segment) || !self.remove(child, depth + segment.len(), key)? {
                    return Ok(false);
                }
                let (segment, child) = (*segment, std::mem::take(child));
                *link = self.lift(path, stored, segment, child);
            }
            Node::Branch(children) => {
                let child = &mut children[usize::from(rest.get_unchecked(0))];
                if !self.remove(child, depth + 1, key)? {
                    return Ok(false);
                }
                self.settle_branch(link, path)?;
            }
        }
        Ok(true)
    }

    /// Makes what it has to be of a branch at `path` some of whose children changed or are gone.
    fn settle_branch(&mut self, link: &mut Link, path: Nibbles) -> Result<(), TrieError<S::Error>> {
        let Link::Node(resolved) = link else { return Ok(()) };
        let Node::Branch(children) = &mut resolved.node else { return Ok(()) };
        let mut remaining = (0u8..).zip(children.iter_mut()).filter(|(_, c)| !c.is_empty());
        match (remaining.next(), remaining.next()) {
            (Some((nibble, last)), None) => {
                let mut segment = Nibbles::new();
                segment.push(nibble);
                self.resolve(last, || path.join(&segment))?;
                let last = std::mem::take(last);
                *link = self.lift(path, resolved.stored, segment, last);
            }
            (Some(_), Some(_)) => resolved.reference = None,
            (None, _) => {
                self.vacate(path, resolved.stored);
                *link = Link::Empty;
            }
        }
        Ok(())
    }

    /// The node at `path`, where an entry is `stored` or not, after everything there but `child`, `segment` further down,
    /// is gone: a leaf or an extension moves up and takes the segment into its key; a branch stays where it is and hangs
    /// from an extension.
    fn lift(&mut self, path: Nibbles, stored: bool, segment: Nibbles, child: Link) -> Link {
        let node = match child {
            Link::Empty => {
                self.vacate(path, stored);
                return Link::Empty;
            }
            branch @ Link::Reference(_) => Node::Extension { key: segment, child: branch },
            Link::Node(resolved) if matches!(resolved.node, Node::Branch(_)) => {
                self.added += 1;
                Node::Extension { key: segment, child: Link::Node(resolved) }
            }
            Link::Node(resolved) => {
                self.vacate(path.join(&segment), resolved.stored);
                match resolved.node {
                    Node::Leaf { key, value } => Node::Leaf { key: segment.join(&key), value },
                    Node::Extension { key, child } => {
                        Node::Extension { key: segment.join(&key), child }
                    }
                    branch @ Node::Branch(_) => branch,
                }
            }
        };
        Link::dirty(node, stored, self.round)
    }
}
