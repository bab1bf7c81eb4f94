//! The leaves of a trie in order of their keys.

use super::{NodeSource, SparseTrie, Walk};
use crate::{
    TrieError,
    node::{Link, Node},
};
use alloy_primitives::B256;
use nybbles::Nibbles;

/// A key, and the value there.
type Leaf = (B256, Vec<u8>);

impl SparseTrie {
    /// The first leaves whose keys are `from` or greater, at most `max`, in order.
    ///
    /// # Errors
    /// When a node on the way cannot be read or is damaged.
    pub fn leaves_from<S: NodeSource>(
        &mut self,
        source: &S,
        from: B256,
        max: usize,
    ) -> Result<Vec<Leaf>, TrieError<S::Error>> {
        let walk = Walk::new(self.trie, source, self.round);
        let mut page = Page { walk, from: Nibbles::unpack(from), max, found: Vec::new() };
        page.visit(&mut self.root, Nibbles::new())?;
        let Page { walk, found, .. } = page;
        walk.end(self);
        Ok(found)
    }
}

struct Page<'s, S> {
    walk: Walk<'s, S>,
    from: Nibbles,
    max: usize,
    found: Vec<Leaf>,
}

impl<S: NodeSource> Page<'_, S> {
    /// Goes through what is below `path`. As deep as a key has nibbles at most.
    fn visit(&mut self, link: &mut Link, path: Nibbles) -> Result<(), TrieError<S::Error>> {
        if self.found.len() >= self.max || path < self.from.slice(..path.len()) {
            return Ok(());
        }
        let Some(resolved) = self.walk.resolve(link, || path)? else { return Ok(()) };
        match &mut resolved.node {
            Node::Leaf { key, value } => {
                let key = path.join(key);
                if key >= self.from {
                    // Decoding has checked that it is as long as a hash.
                    self.found.push((B256::from_slice(&key.pack()), value.clone()));
                }
                Ok(())
            }
            Node::Extension { key, child } => self.visit(child, path.join(key)),
            Node::Branch(children) => {
                (0u8..).zip(children.iter_mut()).try_for_each(|(nibble, child)| {
                    let mut below = path;
                    below.push(nibble);
                    self.visit(child, below)
                })
            }
        }
    }
}
