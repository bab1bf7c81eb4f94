//! Bundles from nodes: our own and others, whole and faulty.

mod own_chain;
mod served;
mod unreliable;
