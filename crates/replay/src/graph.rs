//! Who truly depended on whom in a block, and what that allows any schedule at best.

use crate::record::{RecordedTransaction, Recording, record};
use alloy_primitives::{
    Address, U256,
    map::{AddressMap, HashMap, HashSet},
};
use heddle_chainspec::ChainSpec;
use heddle_evm::{BlockInput, BlockOutput, ExecutionError, ParentState};
use heddle_parallel::{Location, TxIndex};

/// A read of what an earlier transaction of the block wrote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dependency {
    /// The last transaction before the reader that wrote it.
    pub writer: TxIndex,
    /// What was written and read.
    pub location: Location,
    /// When in the reader's time it is read, from 0 (its start) to 1 (its end).
    pub at: f64,
}

/// One transaction of a [`DependencyGraph`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TransactionNode {
    /// Gas it used.
    pub gas: u64,
    /// What it needs, in the order in which it reads it; one entry a location.
    pub dependencies: Vec<Dependency>,
    /// When it reads the beneficiary's account, if it does, from 0 to 1. The account holds the
    /// sum of all fees before, so such a reader needs every earlier transaction.
    pub reads_beneficiary: Option<f64>,
    /// When the executor would look whether running it still makes sense, from 0 to 1, in order.
    pub looks: Vec<f64>,
}

/// A transaction that wrote a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    /// Who it is.
    pub tx: TxIndex,
    /// Whether it only added to the balance or took from it, whatever that was.
    pub credit: bool,
    /// How much it added to a slot.
    pub added: U256,
}

/// The true read-after-write dependencies between the transactions of a block. A transaction that
/// writes without reading depends on nobody: versions keep such writes apart. Sums are no
/// dependencies for those who add to them, but for those who read them: the fees that the
/// beneficiary gets, plain payments to one account, and ether that moves into and out of a contract.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DependencyGraph {
    /// The transactions in block order.
    pub transactions: Vec<TransactionNode>,
    /// Whose account holds the fees.
    pub beneficiary: Address,
    /// Who wrote the locations that anybody depends on, in block order.
    pub writers: HashMap<Location, Vec<Writer>>,
}

/// The heaviest chain of dependent transactions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CriticalPath {
    /// What its transactions add up to: gas or nanoseconds.
    pub weight: u64,
    /// Its transactions, in block order.
    pub transactions: Vec<TxIndex>,
}

/// A location and how much of the block had to happen one after the other because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotLocation {
    /// What was fought over.
    pub location: Location,
    /// The transactions that read there what another wrote, and those that wrote it, in order.
    pub transactions: Vec<TxIndex>,
    /// The gas of the heaviest chain that this location alone makes.
    pub gas_serialised: u64,
}

impl DependencyGraph {
    /// Executes a block one transaction after the other and takes down who depends on whom; gives
    /// the result as well, which is the reference executor's.
    ///
    /// # Errors
    /// If the block cannot be executed.
    pub fn record<P: ParentState>(
        spec: &ChainSpec,
        state: &P,
        input: &BlockInput<'_>,
    ) -> Result<(Self, BlockOutput), ExecutionError> {
        let Recording { output, transactions } = record(spec, state, input, |_| {})?;
        Ok((Self::new(&transactions, input.env.block_env.beneficiary), output))
    }

    pub(crate) fn new(transactions: &[RecordedTransaction], beneficiary: Address) -> Self {
        let mut writers = HashMap::<Location, Vec<Writer>>::default();
        let mut wipes = AddressMap::<TxIndex>::default();
        let mut nodes = Vec::with_capacity(transactions.len());
        for (index, transaction) in transactions.iter().enumerate() {
            let index = TxIndex(index as u32);
            let looks = transaction.looks.clone();
            let mut node = TransactionNode { gas: transaction.gas, looks, ..Default::default() };
            for read in &transaction.reads {
                if read.location == Location::Account(beneficiary) {
                    node.reads_beneficiary.get_or_insert(read.at);
                    continue;
                }
                let wipe = match read.location {
                    Location::Slot(address, _) => wipes.get(&address).copied(),
                    _ => None,
                };
                let last = writers.get(&read.location).and_then(|writers| writers.last());
                let writer = last.map(|writer| writer.tx).max(wipe);
                let repeated = node.dependencies.iter().any(|seen| seen.location == read.location);
                if let Some(writer) = writer.filter(|_| !repeated) {
                    let dependency = Dependency { writer, location: read.location, at: read.at };
                    node.dependencies.push(dependency);
                }
            }
            for location in &transaction.writes {
                if let Location::Wipe(address) = location {
                    wipes.insert(*address, index);
                }
                let added = transaction.added.binary_search_by_key(location, |(slot, _)| *slot);
                let added = added.map_or(U256::ZERO, |place| transaction.added[place].1);
                let writer = Writer { tx: index, credit: false, added };
                writers.entry(*location).or_default().push(writer);
            }
            for account in transaction.pays.iter().filter(|account| **account != beneficiary) {
                let location = Location::Account(*account);
                let writer = Writer { tx: index, credit: true, added: U256::ZERO };
                writers.entry(location).or_default().push(writer);
            }
            nodes.push(node);
        }
        let dependencies = nodes.iter().flat_map(|node| &node.dependencies);
        let needed: HashSet<_> = dependencies.map(|dependency| dependency.location).collect();
        writers.retain(|location, _| needed.contains(location));
        Self { transactions: nodes, beneficiary, writers }
    }

    /// Gas of all transactions.
    pub fn total_gas(&self) -> u64 {
        self.transactions.iter().map(|node| node.gas).sum()
    }

    /// The heaviest chain by gas.
    pub fn critical_path_gas(&self) -> CriticalPath {
        self.critical_path(|index| self.transactions[index].gas)
    }

    /// The writes that a read can see what is left of, the last one first: those before its reader.
    pub fn writers_before(
        &self,
        dependency: &Dependency,
        reader: TxIndex,
    ) -> impl Iterator<Item = Writer> {
        let writers = self.writers.get(&dependency.location).map(Vec::as_slice);
        let writers = writers.unwrap_or_default();
        let before = &writers[..writers.partition_point(|writer| writer.tx < reader)];
        let wipe = Writer { tx: dependency.writer, credit: false, added: U256::ZERO };
        let wipe = (!self.is_write(dependency)).then_some(wipe);
        wipe.into_iter().chain(before.iter().rev().copied())
    }

    /// How much a transaction added to a slot.
    pub fn added(&self, tx: TxIndex, slot: &Location) -> U256 {
        let writers = self.writers.get(slot).map(Vec::as_slice).unwrap_or_default();
        let place = writers.binary_search_by_key(&tx, |writer| writer.tx);
        place.map_or(U256::ZERO, |place| writers[place].added)
    }

    /// Whether what is read was written there, and not left by a wipe.
    fn is_write(&self, dependency: &Dependency) -> bool {
        let writers = self.writers.get(&dependency.location).map(Vec::as_slice);
        let writers = writers.unwrap_or_default();
        writers.binary_search_by_key(&dependency.writer, |writer| writer.tx).is_ok()
    }

    /// The writes of each transaction to locations that anybody depends on.
    fn writes(&self) -> Vec<Vec<(Location, bool)>> {
        let mut writes = vec![Vec::new(); self.transactions.len()];
        for (location, writers) in &self.writers {
            for Writer { tx, credit, .. } in writers {
                writes[tx.as_usize()].push((*location, *credit));
            }
        }
        writes
    }

    /// The heaviest chain where transaction `i` weighs `weight(i)`, for example its time.
    pub fn critical_path(&self, weight: impl Fn(usize) -> u64) -> CriticalPath {
        let mut chains = Vec::<(u64, Option<usize>)>::with_capacity(self.transactions.len());
        let mut heaviest: Option<usize> = None;
        let writes = self.writes();
        // Whose chain is the heaviest among those that made a location what it is: its last writer,
        // and those who have added to it since.
        let mut makers = HashMap::<Location, usize>::default();
        for (index, node) in self.transactions.iter().enumerate() {
            let before = node.dependencies.iter().map(|dependency| {
                let maker = makers.get(&dependency.location).filter(|_| self.is_write(dependency));
                maker.copied().unwrap_or(dependency.writer.as_usize())
            });
            let all = node.reads_beneficiary.and(heaviest);
            let before = before.chain(all).max_by_key(|former| chains[*former].0);
            let length = before.map_or(0, |former| chains[former].0) + weight(index);
            chains.push((length, before));
            if heaviest.is_none_or(|other| chains[other].0 < length) {
                heaviest = Some(index);
            }
            for (location, credit) in &writes[index] {
                let maker = makers.entry(*location).or_insert(index);
                if !credit || chains[*maker].0 < length {
                    *maker = index;
                }
            }
        }
        let mut path =
            CriticalPath { weight: heaviest.map_or(0, |end| chains[end].0), ..Default::default() };
        let mut next = heaviest;
        while let Some(index) = next {
            path.transactions.push(TxIndex(index as u32));
            next = chains[index].1;
        }
        path.transactions.reverse();
        path
    }

    /// The `count` locations that serialised the most gas, the heaviest first.
    pub fn hot_locations(&self, count: usize) -> Vec<HotLocation> {
        #[derive(Default)]
        struct Chain {
            by_transaction: HashMap<TxIndex, u64>,
            heaviest: u64,
        }
        let mut chains = HashMap::<Location, Chain>::default();
        let mut most_gas_before = 0;
        let gas = |index: TxIndex| self.transactions[index.as_usize()].gas;
        let mut fees = Vec::new();
        let mut fees_chain = 0;
        for (index, node) in self.transactions.iter().enumerate() {
            let index = TxIndex(index as u32);
            for dependency in &node.dependencies {
                let chain = chains.entry(dependency.location).or_default();
                let writer = dependency.writer;
                let before = *chain.by_transaction.entry(writer).or_insert_with(|| gas(writer));
                let length = before + node.gas;
                chain.by_transaction.insert(index, length);
                chain.heaviest = chain.heaviest.max(length);
            }
            if node.reads_beneficiary.is_some() && most_gas_before > 0 {
                fees.push(index);
                fees_chain = most_gas_before.max(fees_chain) + node.gas;
            }
            most_gas_before = most_gas_before.max(node.gas);
        }
        let mut hot: Vec<_> = chains
            .into_iter()
            .map(|(location, chain)| {
                let mut transactions: Vec<_> = chain.by_transaction.into_keys().collect();
                transactions.sort_unstable();
                HotLocation { location, transactions, gas_serialised: chain.heaviest }
            })
            .collect();
        if !fees.is_empty() {
            hot.push(HotLocation {
                location: Location::Account(self.beneficiary),
                transactions: fees,
                gas_serialised: fees_chain,
            });
        }
        hot.sort_unstable_by_key(|entry| (std::cmp::Reverse(entry.gas_serialised), entry.location));
        hot.truncate(count);
        hot
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::RecordedRead;
    use alloy_primitives::U256;

    pub(crate) fn slot(number: u64) -> Location {
        Location::Slot(Address::repeat_byte(0xaa), U256::from(number))
    }

    /// Gas, slots read, slots written.
    pub(crate) type Described<'a> = (u64, &'a [u64], &'a [u64]);

    /// Transactions of the given gas that read and write these slots, each read at the start.
    pub(crate) fn graph(transactions: &[Described<'_>]) -> DependencyGraph {
        let recorded = transactions.iter().map(|(gas, reads, writes)| {
            let reads = reads.iter().map(|n| RecordedRead { location: slot(*n), at: 0.0 });
            let writes = writes.iter().map(|n| slot(*n));
            let (reads, writes) = (reads.collect(), writes.collect());
            RecordedTransaction { gas: *gas, reads, writes, ..Default::default() }
        });
        DependencyGraph::new(&recorded.collect::<Vec<_>>(), Address::ZERO)
    }

    fn indices(numbers: &[u32]) -> Vec<TxIndex> {
        numbers.iter().copied().map(TxIndex).collect()
    }

    #[test]
    fn a_read_depends_on_the_last_earlier_writer_and_a_blind_write_on_nobody() {
        let graph = graph(&[(1, &[], &[1]), (1, &[], &[1]), (1, &[1], &[]), (1, &[1], &[2])]);
        let writers: Vec<Vec<_>> = graph
            .transactions
            .iter()
            .map(|node| node.dependencies.iter().map(|dependency| dependency.writer.0).collect())
            .collect();
        assert_eq!(writers, [vec![], vec![], vec![1], vec![1]]);
    }

    #[test]
    fn the_critical_path_is_the_heaviest_chain_and_not_the_longest() {
        let graph = graph(&[
            (10, &[], &[1]),
            (10, &[1], &[1]),
            (10, &[1], &[1]),
            (25, &[], &[2]),
            (26, &[2], &[]),
        ]);
        let path = graph.critical_path_gas();
        assert_eq!((path.weight, path.transactions), (51, indices(&[3, 4])));
        let by_time = graph.critical_path(|_| 1);
        assert_eq!((by_time.weight, by_time.transactions), (3, indices(&[0, 1, 2])));
        assert_eq!(graph.total_gas(), 81);
        assert_eq!(DependencyGraph::default().critical_path_gas(), CriticalPath::default());
    }

    #[test]
    fn a_wiped_account_makes_later_readers_of_its_slots_depend_on_the_wipe() {
        let address = Address::repeat_byte(0xaa);
        let read = RecordedRead { location: slot(7), at: 0.5 };
        let transactions = [
            RecordedTransaction { writes: vec![slot(7)], ..Default::default() },
            RecordedTransaction { writes: vec![Location::Wipe(address)], ..Default::default() },
            RecordedTransaction { reads: vec![read], ..Default::default() },
        ];
        let graph = DependencyGraph::new(&transactions, Address::ZERO);
        let expected = Dependency { writer: TxIndex(1), location: slot(7), at: 0.5 };
        assert_eq!(graph.transactions[2].dependencies, [expected]);
    }

    #[test]
    fn whoever_reads_the_beneficiary_waits_for_all_before_and_nobody_else_does() {
        let beneficiary = Address::repeat_byte(0xbb);
        let read = RecordedRead { location: Location::Account(beneficiary), at: 0.25 };
        let plain = |gas| RecordedTransaction { gas, ..Default::default() };
        let transactions = [
            plain(5),
            plain(7),
            RecordedTransaction { gas: 2, reads: vec![read], ..Default::default() },
            plain(8),
        ];
        let graph = DependencyGraph::new(&transactions, beneficiary);
        assert_eq!(graph.transactions[2].reads_beneficiary, Some(0.25));
        let path = graph.critical_path_gas();
        assert_eq!((path.weight, path.transactions), (9, indices(&[1, 2])));
        let hot = graph.hot_locations(10);
        assert_eq!(hot.len(), 1);
        assert_eq!((hot[0].gas_serialised, &hot[0].transactions), (9, &indices(&[2])));
    }

    #[test]
    fn payments_to_one_account_depend_on_nobody_and_who_reads_it_on_all_of_them() {
        let hot = Address::repeat_byte(0xcc);
        let payment = |gas| RecordedTransaction { gas, pays: vec![hot], ..Default::default() };
        let read = RecordedRead { location: Location::Account(hot), at: 0.5 };
        let spends = RecordedTransaction {
            gas: 1,
            reads: vec![read],
            writes: vec![Location::Account(hot)],
            ..Default::default()
        };
        let transactions = [payment(5), payment(9), payment(4), spends.clone(), payment(3), spends];
        let graph = DependencyGraph::new(&transactions, Address::ZERO);
        let depend = graph.transactions.iter().map(|node| node.dependencies.len());
        assert_eq!(depend.collect::<Vec<_>>(), [0, 0, 0, 1, 0, 1]);
        let path = graph.critical_path_gas();
        assert_eq!((path.weight, path.transactions), (11, indices(&[1, 3, 5])));
        let before = |reader: u32| {
            let dependency = &graph.transactions[reader as usize].dependencies[0];
            let writers = graph.writers_before(dependency, TxIndex(reader));
            writers.map(|writer| (writer.tx.0, writer.credit)).collect::<Vec<_>>()
        };
        assert_eq!(before(3), [(2, true), (1, true), (0, true)]);
        assert_eq!(before(5)[..2], [(4, true), (3, false)]);
    }

    #[test]
    fn the_hottest_location_is_the_one_whose_own_chain_is_heaviest() {
        let graph =
            graph(&[(10, &[], &[1, 2]), (10, &[1], &[1]), (10, &[1, 2], &[1]), (4, &[2], &[])]);
        let hot = graph.hot_locations(2);
        assert_eq!((hot[0].location, hot[0].gas_serialised), (slot(1), 30));
        assert_eq!(hot[0].transactions, indices(&[0, 1, 2]));
        assert_eq!((hot[1].location, hot[1].gas_serialised), (slot(2), 20));
        assert_eq!(graph.hot_locations(1).len(), 1);
    }
}
