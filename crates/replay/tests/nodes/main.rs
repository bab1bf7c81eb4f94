//! Bundles from nodes: our own and others, whole and faulty.

mod dialects;
mod own_chain;
mod served;
mod unreliable;
