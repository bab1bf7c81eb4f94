//! The nodes of a trie as they are in memory.

use crate::NodeDefect;
use alloy_primitives::B256;
use alloy_rlp::Decodable;
use alloy_trie::nodes::{RlpNode, TrieNode};
use nybbles::Nibbles;

/// Nibbles in a hashed key; every leaf ends at this depth.
const KEY_NIBBLES: usize = 64;

/// What is wrong with a stored empty node.
pub(crate) const EMPTY_NODE: &str = "an empty trie has no entry";

/// What a parent holds for a child.
#[derive(Debug, Default)]
pub(crate) enum Link {
    #[default]
    Empty,
    /// Not decoded: the RLP of a hash, or of a node shorter than 32 bytes.
    Reference(RlpNode),
    /// Decoded. In a box, so that the fifteen siblings of a node that is visited take little.
    Node(Box<Resolved>),
}

#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) node: Node,
    /// `None` once the node is dirty.
    pub(crate) reference: Option<RlpNode>,
    /// Whether an entry is stored at the path where this node stands.
    pub(crate) stored: bool,
    /// The change in which it was visited last. A node's parents were visited no earlier.
    pub(crate) round: u32,
}

#[derive(Debug)]
pub(crate) enum Node {
    Leaf { key: Nibbles, value: Vec<u8> },
    Extension { key: Nibbles, child: Link },
    Branch(Box<[Link; 16]>),
}

impl Link {
    /// A node that is to be hashed, at a path where an entry is `stored` or not.
    pub(crate) fn dirty(node: Node, stored: bool, round: u32) -> Self {
        Self::Node(Box::new(Resolved { node, reference: None, stored, round }))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(crate) fn mark_dirty(&mut self) {
        if let Self::Node(resolved) = self {
            resolved.reference = None;
        }
    }

    /// The children, if this is a branch in memory.
    pub(crate) fn branch(&mut self) -> Option<&mut [Link; 16]> {
        match self {
            Self::Node(resolved) => match &mut resolved.node {
                Node::Branch(children) => Some(children),
                Node::Leaf { .. } | Node::Extension { .. } => None,
            },
            Self::Empty | Self::Reference(_) => None,
        }
    }

    /// Adds up the nodes in memory here and below, by the round in which they were visited last.
    pub(crate) fn count(&self, add: &mut impl FnMut(u32)) {
        let Self::Node(resolved) = self else { return };
        add(resolved.round);
        match &resolved.node {
            Node::Leaf { .. } => {}
            Node::Extension { child, .. } => child.count(add),
            Node::Branch(children) => children.iter().for_each(|child| child.count(add)),
        }
    }

    /// Leaves only references to the nodes that were visited before `round`. Nothing may be dirty.
    pub(crate) fn forget_before(&mut self, round: u32) {
        let Self::Node(resolved) = self else { return };
        if resolved.round < round {
            if let Some(reference) = resolved.reference.take() {
                *self = Self::Reference(reference);
            }
            return;
        }
        match &mut resolved.node {
            Node::Leaf { .. } => {}
            Node::Extension { child, .. } => child.forget_before(round),
            Node::Branch(children) => {
                children.iter_mut().for_each(|child| child.forget_before(round));
            }
        }
    }
}

/// A branch with two children, below an extension if `prefix` is not empty.
pub(crate) fn fork(
    prefix: Nibbles,
    round: u32,
    (nibble_a, a): (u8, Link),
    (nibble_b, b): (u8, Link),
) -> Node {
    let mut children: Box<[Link; 16]> = Box::default();
    children[usize::from(nibble_a)] = a;
    children[usize::from(nibble_b)] = b;
    let branch = Node::Branch(children);
    if prefix.is_empty() {
        branch
    } else {
        Node::Extension { key: prefix, child: Link::dirty(branch, false, round) }
    }
}

/// The hash in a reference, `None` if the node itself is in there.
pub(crate) fn hash_in(reference: &RlpNode) -> Option<B256> {
    let is_string = reference.first().is_some_and(|byte| *byte < 0xc0);
    reference.as_hash().filter(|_| is_string)
}

/// Decodes a node that stands `depth` nibbles deep, and checks what the rest of this crate relies
/// on: that keys end at 64 nibbles, that branches have two children or more, and that references
/// are hashes or short nodes.
pub(crate) fn decode(rlp: &[u8], depth: usize) -> Result<Node, NodeDefect> {
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
            Ok(Node::Extension { key: extension.key, child: reference(extension.child)? })
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
