//! One trie, of which only the nodes on visited paths are in memory.
//!
//! A node is in one of three conditions: a *reference* (its hash, or its short RLP, as the parent
//! holds it), *clean* (decoded, and its reference still valid) or *dirty* (changed since, to be
//! hashed anew). Inserting and removing turn references into clean nodes and clean nodes into dirty
//! ones; sealing turns dirty ones into references and reports them.
//!
//! Deleted nodes need care because nodes are stored by path: whenever a node stops existing at its
//! path (a leaf is removed, a branch collapses into its last child and that child moves up), the
//! path goes on the `vacated` list. A node that becomes shorter than 32 bytes moves into its
//! parent, which vacates its path too. Only paths that a node was loaded from are reported.

use crate::{NodeDefect, TrieError, TrieId};
use alloy_primitives::{B256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{
    EMPTY_ROOT_HASH, TrieMask,
    nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode, TrieNode},
};
use nybbles::Nibbles;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// Nibbles in a hashed key; every leaf ends at this depth.
const KEY_NIBBLES: usize = 64;

/// From how many changed leaves on the sixteen subtries below a root branch are hashed in parallel.
/// Below it, waking threads costs more than the hashing (roughly 2 µs a leaf).
const PARALLEL_SEAL_LEAVES: usize = 512;

/// What is wrong with a stored empty node.
const EMPTY_NODE: &str = "an empty trie has no entry";

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

/// A Merkle-Patricia trie over 32-byte keys that reads the nodes it needs from `S`.
#[derive(Debug)]
pub struct SparseTrie<S> {
    root: Link,
    loader: Loader<S>,
    changed_leaves: usize,
}

impl<S: NodeSource> SparseTrie<S> {
    /// The trie with this root hash.
    pub fn new(trie: TrieId, root: B256, source: S) -> Self {
        let root = if root == EMPTY_ROOT_HASH {
            Link::Empty
        } else {
            Link::Reference(RlpNode::word_rlp(&root))
        };
        Self { root, loader: Loader::new(trie, source), changed_leaves: 0 }
    }

    /// The trie whose root node is whatever the source has at the empty path; empty if nothing.
    ///
    /// # Errors
    /// When the root node cannot be read.
    pub fn from_stored_root(trie: TrieId, source: S) -> Result<Self, TrieError<S::Error>> {
        let loader = Loader::new(trie, source);
        let path = Nibbles::new();
        let root = match loader.read(&path)?.map(keccak256) {
            None => EMPTY_ROOT_HASH,
            Some(EMPTY_ROOT_HASH) => {
                return Err(loader.damaged(&path, NodeDefect::Shape(EMPTY_NODE)));
            }
            Some(root) => root,
        };
        let Loader { source, .. } = loader;
        Ok(Self::new(trie, root, source))
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When a node on the way cannot be read or is damaged.
    pub fn get(&mut self, key: B256) -> Result<Option<&[u8]>, TrieError<S::Error>> {
        let key = Nibbles::unpack(key);
        let mut link = &mut self.root;
        let mut depth = 0;
        loop {
            self.loader.resolve(link, &key.slice(..depth))?;
            let Link::Node { node, .. } = link else {
                return Ok(None);
            };
            match node {
                Node::Leaf { key: rest, value } => {
                    return Ok((key.slice(depth..) == *rest).then_some(value.as_slice()));
                }
                Node::Extension { key: segment, child } => {
                    if !key.slice(depth..).starts_with(segment) {
                        return Ok(None);
                    }
                    depth += segment.len();
                    link = child;
                }
                Node::Branch(children) => {
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
    pub fn insert(&mut self, key: B256, value: Vec<u8>) -> Result<(), TrieError<S::Error>> {
        debug_assert!(!value.is_empty(), "an empty value means absence in a Merkle-Patricia trie");
        let key = Nibbles::unpack(key);
        if self.loader.insert(&mut self.root, 0, &key, value)? {
            self.changed_leaves += 1;
        }
        Ok(())
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// When a node on the way cannot be read or is damaged; the trie must not be used further.
    pub fn remove(&mut self, key: B256) -> Result<(), TrieError<S::Error>> {
        let key = Nibbles::unpack(key);
        if self.loader.remove(&mut self.root, 0, &key)? {
            self.changed_leaves += 1;
        }
        Ok(())
    }

    /// Hashes the dirty nodes: the new root hash, and what became of the stored nodes.
    pub fn seal(mut self) -> (B256, BTreeMap<Nibbles, Option<Vec<u8>>>) {
        let mut report = SealReport::default();
        if self.changed_leaves >= PARALLEL_SEAL_LEAVES {
            seal_children_in_parallel(&mut self.root, &mut report);
        }
        let reference = seal(&mut self.root, Nibbles::new(), &mut report);
        let root = match reference {
            None => EMPTY_ROOT_HASH,
            // A root that is short enough to be embedded has no parent to be embedded in.
            Some(reference) => {
                reference.as_hash().unwrap_or_else(|| keccak256(reference.as_slice()))
            }
        };

        let Loader { loaded, mut vacated, .. } = self.loader;
        vacated.append(&mut report.embedded);
        let mut updates: BTreeMap<Nibbles, Option<Vec<u8>>> = vacated
            .into_iter()
            .filter(|path| loaded.contains(path))
            .map(|path| (path, None))
            .collect();
        updates.extend(report.stored.into_iter().map(|(path, rlp)| (path, Some(rlp))));
        (root, updates)
    }
}

/// What a parent holds for a child.
#[derive(Debug, Default)]
enum Link {
    #[default]
    Empty,
    /// Not decoded: the RLP of a hash, or of a node shorter than 32 bytes.
    Reference(RlpNode),
    /// Decoded; `reference` is `None` once the node is dirty.
    Node { node: Node, reference: Option<RlpNode> },
}

#[derive(Debug)]
enum Node {
    Leaf { key: Nibbles, value: Vec<u8> },
    Extension { key: Nibbles, child: Box<Link> },
    Branch(Box<[Link; 16]>),
}

impl Link {
    const fn dirty(node: Node) -> Self {
        Self::Node { node, reference: None }
    }

    const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn mark_dirty(&mut self) {
        if let Self::Node { reference, .. } = self {
            *reference = None;
        }
    }
}

/// Reads nodes on demand and remembers which paths they came from and which became vacant.
#[derive(Debug)]
struct Loader<S> {
    trie: TrieId,
    source: S,
    loaded: HashSet<Nibbles>,
    vacated: Vec<Nibbles>,
}

impl<S: NodeSource> Loader<S> {
    fn new(trie: TrieId, source: S) -> Self {
        Self { trie, source, loaded: HashSet::new(), vacated: Vec::new() }
    }

    fn read(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, TrieError<S::Error>> {
        self.source.node(path).map_err(|source| TrieError::read(self.trie, *path, source))
    }

    fn damaged(&self, path: &Nibbles, defect: NodeDefect) -> TrieError<S::Error> {
        TrieError::damaged(self.trie, *path, defect)
    }

    /// Decodes the node at `path` if `link` is a reference to it.
    fn resolve(&mut self, link: &mut Link, path: &Nibbles) -> Result<(), TrieError<S::Error>> {
        let Link::Reference(reference) = link else {
            return Ok(());
        };
        let node = match hash_in(reference) {
            Some(expected) => {
                let rlp = self
                    .read(path)?
                    .ok_or_else(|| self.damaged(path, NodeDefect::Missing { expected }))?;
                let actual = keccak256(&rlp);
                if actual != expected {
                    return Err(self.damaged(path, NodeDefect::WrongHash { expected, actual }));
                }
                self.loaded.insert(*path);
                decode(&rlp, path.len())
            }
            None => decode(reference, path.len()),
        }
        .map_err(|defect| self.damaged(path, defect))?;
        *link = Link::Node { node, reference: Some(reference.clone()) };
        Ok(())
    }

    /// Sets `key` below `link`, which stands `depth` nibbles deep. Whether anything changed.
    fn insert(
        &mut self,
        link: &mut Link,
        depth: usize,
        key: &Nibbles,
        new_value: Vec<u8>,
    ) -> Result<bool, TrieError<S::Error>> {
        self.resolve(link, &key.slice(..depth))?;
        let rest = key.slice(depth..);
        let Link::Node { node, .. } = link else {
            *link = Link::dirty(Node::Leaf { key: rest, value: new_value });
            return Ok(true);
        };
        let changed = match node {
            Node::Leaf { key: leaf_key, value } => {
                let common = rest.common_prefix_length(leaf_key);
                if common < rest.len() {
                    let old = Node::Leaf {
                        key: leaf_key.slice(common + 1..),
                        value: std::mem::take(value),
                    };
                    let new = Node::Leaf { key: rest.slice(common + 1..), value: new_value };
                    *node = fork(
                        rest.slice(..common),
                        (leaf_key.get_unchecked(common), Link::dirty(old)),
                        (rest.get_unchecked(common), Link::dirty(new)),
                    );
                    true
                } else if *value == new_value {
                    false
                } else {
                    *value = new_value;
                    true
                }
            }
            Node::Extension { key: segment, child } => {
                let common = rest.common_prefix_length(segment);
                if common == segment.len() {
                    self.insert(child, depth + common, key, new_value)?
                } else {
                    let child = std::mem::take(&mut **child);
                    // The child keeps its path; what stands between it and the fork shrinks.
                    let old = if common + 1 == segment.len() {
                        child
                    } else {
                        let key = segment.slice(common + 1..);
                        Link::dirty(Node::Extension { key, child: Box::new(child) })
                    };
                    let new = Node::Leaf { key: rest.slice(common + 1..), value: new_value };
                    *node = fork(
                        rest.slice(..common),
                        (segment.get_unchecked(common), old),
                        (rest.get_unchecked(common), Link::dirty(new)),
                    );
                    true
                }
            }
            Node::Branch(children) => {
                let child = &mut children[usize::from(rest.get_unchecked(0))];
                self.insert(child, depth + 1, key, new_value)?
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
        self.resolve(link, &path)?;
        let rest = key.slice(depth..);
        let Link::Node { node, .. } = link else {
            return Ok(false);
        };
        match node {
            Node::Leaf { key: leaf_key, .. } => {
                if rest != *leaf_key {
                    return Ok(false);
                }
                self.vacated.push(path);
                *link = Link::Empty;
            }
            Node::Extension { key: segment, child } => {
                if !rest.starts_with(segment) || !self.remove(child, depth + segment.len(), key)? {
                    return Ok(false);
                }
                let (segment, child) = (*segment, std::mem::take(&mut **child));
                *link = self.join(path, segment, child);
            }
            Node::Branch(children) => {
                let child = &mut children[usize::from(rest.get_unchecked(0))];
                if !self.remove(child, depth + 1, key)? {
                    return Ok(false);
                }
                let mut remaining = (0u8..).zip(children.iter_mut()).filter(|(_, c)| !c.is_empty());
                match (remaining.next(), remaining.next()) {
                    (Some((nibble, last)), None) => {
                        let mut segment = Nibbles::new();
                        segment.push(nibble);
                        self.resolve(last, &path.join(&segment))?;
                        let last = std::mem::take(last);
                        *link = self.join(path, segment, last);
                    }
                    (Some(_), Some(_)) => link.mark_dirty(),
                    // A stored branch has two children at least (checked when it is decoded).
                    (None, _) => {
                        self.vacated.push(path);
                        *link = Link::Empty;
                    }
                }
            }
        }
        Ok(true)
    }

    /// The node at `path` after everything there but `child`, `segment` further down, is gone: a
    /// leaf or an extension moves up and takes the segment into its key; a branch stays where it is
    /// and hangs from an extension.
    fn join(&mut self, path: Nibbles, segment: Nibbles, child: Link) -> Link {
        match child {
            Link::Empty => {
                self.vacated.push(path);
                Link::Empty
            }
            Link::Node { node: Node::Leaf { key, value }, .. } => {
                self.vacated.push(path.join(&segment));
                Link::dirty(Node::Leaf { key: segment.join(&key), value })
            }
            Link::Node { node: Node::Extension { key, child }, .. } => {
                self.vacated.push(path.join(&segment));
                Link::dirty(Node::Extension { key: segment.join(&key), child })
            }
            branch @ (Link::Node { node: Node::Branch(_), .. } | Link::Reference(_)) => {
                Link::dirty(Node::Extension { key: segment, child: Box::new(branch) })
            }
        }
    }
}

/// A branch with two children, below an extension if `prefix` is not empty.
fn fork(prefix: Nibbles, (nibble_a, a): (u8, Link), (nibble_b, b): (u8, Link)) -> Node {
    let mut children: Box<[Link; 16]> = Box::default();
    children[usize::from(nibble_a)] = a;
    children[usize::from(nibble_b)] = b;
    let branch = Node::Branch(children);
    if prefix.is_empty() {
        branch
    } else {
        Node::Extension { key: prefix, child: Box::new(Link::dirty(branch)) }
    }
}

/// The hash in a reference, `None` if the node itself is in there.
fn hash_in(reference: &RlpNode) -> Option<B256> {
    let is_string = reference.first().is_some_and(|byte| *byte < 0xc0);
    reference.as_hash().filter(|_| is_string)
}

/// Decodes a node that stands `depth` nibbles deep, and checks what the rest of this file relies
/// on: that keys end at 64 nibbles, that branches have two children or more, and that references
/// are hashes or short nodes.
fn decode(rlp: &[u8], depth: usize) -> Result<Node, NodeDefect> {
    let mut remaining = rlp;
    let node = TrieNode::decode(&mut remaining).map_err(NodeDefect::Rlp)?;
    if !remaining.is_empty() {
        return Err(NodeDefect::Rlp(alloy_rlp::Error::UnexpectedLength));
    }
    let room = KEY_NIBBLES - depth;
    match node {
        TrieNode::EmptyRoot => Err(NodeDefect::Shape(EMPTY_NODE)),
        TrieNode::Leaf(leaf) if leaf.key.len() != room => {
            Err(NodeDefect::Shape("a leaf must end at 64 nibbles"))
        }
        TrieNode::Leaf(leaf) => Ok(Node::Leaf { key: leaf.key, value: leaf.value }),
        TrieNode::Extension(extension) => {
            if extension.key.is_empty() || extension.key.len() >= room {
                return Err(NodeDefect::Shape(
                    "an extension must end between its start and a leaf",
                ));
            }
            let child = Box::new(reference(extension.child)?);
            Ok(Node::Extension { key: extension.key, child })
        }
        TrieNode::Branch(branch) => {
            if room == 0 {
                return Err(NodeDefect::Shape("a branch cannot stand below 64 nibbles"));
            }
            if branch.stack.len() < 2 {
                return Err(NodeDefect::Shape("a branch must have two children"));
            }
            let mut children: Box<[Link; 16]> = Box::default();
            for (nibble, child) in branch.state_mask.iter().zip(branch.stack) {
                children[usize::from(nibble)] = reference(child)?;
            }
            Ok(Node::Branch(children))
        }
    }
}

fn reference(rlp: RlpNode) -> Result<Link, NodeDefect> {
    let is_list = rlp.first().is_some_and(|byte| *byte >= 0xc0);
    if hash_in(&rlp).is_some() || (is_list && rlp.len() < 32) {
        Ok(Link::Reference(rlp))
    } else {
        Err(NodeDefect::Shape("a reference must be a hash or a node shorter than 32 bytes"))
    }
}

/// What sealing found.
#[derive(Debug, Default)]
struct SealReport {
    /// Nodes with an entry of their own.
    stored: Vec<(Nibbles, Vec<u8>)>,
    /// Paths of dirty nodes that are now part of their parents.
    embedded: Vec<Nibbles>,
}

/// Hashes what is dirty at and below `link`; the reference by which a parent holds it.
fn seal(link: &mut Link, path: Nibbles, report: &mut SealReport) -> Option<RlpNode> {
    let (node, reference) = match link {
        Link::Empty => return None,
        Link::Reference(reference) => return Some(reference.clone()),
        Link::Node { reference: Some(reference), .. } => return Some(reference.clone()),
        Link::Node { node, reference } => (node, reference),
    };
    let mut rlp = Vec::new();
    let sealed = match node {
        Node::Leaf { key, value } => LeafNodeRef::new(key, value).rlp(&mut rlp),
        Node::Extension { key, child } => {
            let child = seal(child, path.join(key), report).unwrap_or_default();
            ExtensionNodeRef::new(key, child.as_slice()).rlp(&mut rlp)
        }
        Node::Branch(children) => {
            rlp.reserve(16 * 33 + 4);
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
            BranchNodeRef::new(&stack[..count], mask).rlp(&mut rlp)
        }
    };
    if rlp.len() >= 32 || path.is_empty() {
        report.stored.push((path, rlp));
    } else {
        report.embedded.push(path);
    }
    *reference = Some(sealed.clone());
    Some(sealed)
}

/// Seals the subtries below a root branch, so that sealing the root has only that left to do.
fn seal_children_in_parallel(root: &mut Link, report: &mut SealReport) {
    let Link::Node { node: Node::Branch(children), reference: None } = root else {
        return;
    };
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
