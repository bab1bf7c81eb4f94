//! What a stranger sees first.

use heddle_node::{DEV_MNEMONIC, DevAccount, DevChain, Node};
use std::path::Path;

/// What the banner tells about a running node beside what the node knows itself.
pub(crate) struct Banner<'a> {
    pub(crate) node: &'a Node,
    pub(crate) accounts: &'a [DevAccount],
    pub(crate) dev_chain: &'a DevChain,
    pub(crate) datadir: Option<&'a Path>,
    pub(crate) mining: String,
}

impl Banner<'_> {
    pub(crate) fn print(&self) {
        let chain = self.node.chain();
        let head = chain.head();
        println!();
        println!("  ╷ ╷ ╷ ╷   Heddle {}", env!("CARGO_PKG_VERSION"));
        println!("  ┼─┼─┼─┼   many threads, one ordered cloth");
        println!("  ╵ ╵ ╵ ╵");
        println!();
        if !self.accounts.is_empty() {
            self.print_accounts();
        }
        let address = self.node.rpc_address();
        println!("  URL         http://{address}   ws://{address}");
        println!("  Chain id    {}", chain.chain_id());
        println!("  Head        block {}, {}", head.number(), head.hash());
        if let Some(remote) = chain.forked() {
            let (number, node) = (remote.number(), remote.node().name());
            println!("  Fork        of block {number} of {node}");
        }
        println!("  Base fee    {} wei", chain.next_base_fee());
        println!("  Gas limit   {}", self.node.miner().gas_limit());
        println!("  Blocks      {}", self.mining);
        println!("  Workers     {}", chain.workers());
        match self.datadir {
            Some(path) => println!("  Store       {}", path.display()),
            None if chain.is_fork() => {
                println!("  Store       in memory: gone when the node stops");
            }
            None => {
                println!("  Store       in memory: gone when the node stops (--datadir keeps it)");
            }
        }
        println!();
        println!("  Stop with Ctrl-C.");
        println!();
    }

    fn print_accounts(&self) {
        println!("  Accounts, with {} ETH each at the start", self.dev_chain.balance_ether);
        for (index, account) in self.accounts.iter().enumerate() {
            println!("  ({index}) {}", account.address);
        }
        println!();
        println!("  Private keys");
        for (index, account) in self.accounts.iter().enumerate() {
            println!("  ({index}) {}", account.key);
        }
        println!();
        println!("  Mnemonic    {}", self.dev_chain.mnemonic);
        println!();
        if self.dev_chain.mnemonic != DEV_MNEMONIC {
            return;
        }
        println!("  WARNING: everybody knows these keys. Whatever is sent to these accounts on a");
        println!("  public network is stolen at once. Use them on this chain only.");
        println!();
    }
}
