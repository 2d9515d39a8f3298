//! `macula bench`: each subsystem beside the raw layer below it, in the same run.

mod crdt;
mod dht;
mod kv;
mod pubsub;
mod report;
mod rpc;
mod supervision;

use std::path::Path;

pub(crate) use report::Suite;

/// The suites by name, and what each runs.
pub(crate) fn run(suite: SuiteName, amounts: Amounts, folder: &Path) -> anyhow::Result<Suite> {
    match suite {
        SuiteName::Supervision => supervision::run(amounts),
        SuiteName::Rpc => rpc::run(amounts),
        SuiteName::Pubsub => pubsub::run(amounts),
        SuiteName::Dht => dht::run(amounts),
        SuiteName::Kv => kv::run(amounts, folder),
        SuiteName::Crdt => crdt::run(amounts),
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amounts {
    /// Divides all amounts, for a quick look and for tests; 1 is the real one, and the least.
    pub(crate) scale: usize,
    /// What is simulated comes from it.
    pub(crate) seed: u64,
    /// Whether what takes very long is measured too.
    pub(crate) large: bool,
}

/// The suites there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SuiteName {
    /// Restarts, handles, and a hundred thousand dynamic children, beside raw ractor.
    Supervision,
    /// Calls to an actor on another node, and what connections cost, beside raw QUIC.
    Rpc,
    /// Published messages of 128 bytes between nodes. `one_to_one` and `acknowledged` are held against
    /// raw frames pipelined on one QUIC stream: a task makes each, gives it to the stream by itself and
    /// waits for nothing, and another cuts them out of what comes. `one_to_one_of_bulk` holds it
    /// against the mere bytes in writes of 256 frames that nobody makes or reads, which bounds what any
    /// protocol could do.
    Pubsub,
    /// The distributed hash table: simulated meshes of up to 10,000 nodes, or 100,000 with --large,
    /// and real ones on the loopback interface. It takes some minutes.
    Dht,
    /// Keys and values that three voters agree upon, each a process of its own with its files on one disk,
    /// beside appends to a plain file and the bare store. Its leaders are killed a hundred times, so it
    /// takes some minutes. `macula bench --help` says how etcd is measured on the same disk.
    Kv,
    /// Replicated types: updates and merges in memory beside plain collections and the `crdts` crate, and
    /// what two replicas of a million keys send to come together. It takes a minute or two, and some GiB.
    Crdt,
}

/// How others are measured on the same machine.
pub(crate) const BESIDE: &str = "\
etcd 3.4 beside `bench kv`, with Debian's packages etcd-server, etcd-client and apache2-utils, in a folder on
the same disk:

  for i in 1 2 3; do etcd --name n$i --data-dir etcd-bench/n$i --log-level error \\
    --listen-client-urls http://127.0.0.1:2${i}79 --advertise-client-urls http://127.0.0.1:2${i}79 \\
    --listen-peer-urls http://127.0.0.1:2${i}80 --initial-advertise-peer-urls http://127.0.0.1:2${i}80 \\
    --initial-cluster n1=http://127.0.0.1:2180,n2=http://127.0.0.1:2280,n3=http://127.0.0.1:2380 & done
  all=127.0.0.1:2179,127.0.0.1:2279,127.0.0.1:2379; export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=$all
  etcdctl endpoint status -w table                      # who leads: its address stands for LEADER below
  key=$(printf bench | base64); value=$(head -c 256 /dev/zero | base64 -w 0)
  printf '{\"key\":\"%s\",\"value\":\"%s\"}' $key $value > put.json
  printf '{\"key\":\"%s\"}' $key > get.json
  ab='ab -q -l -k -T application/json'
  $ab -c 1 -n 2000 -p put.json http://LEADER/v3/kv/put            # put_sequential
  $ab -c 64 -n 40000 -p put.json http://LEADER/v3/kv/put          # put_64
  $ab -c 1024 -n 100000 -p put.json http://LEADER/v3/kv/put       # put_1024
  $ab -c 64 -n 100000 -p get.json http://LEADER/v3/kv/range       # get_linearizable_64
  etcdctl check perf --load=xl                                    # puts of 1,000 callers by gRPC
  kill -9 PID_OF_THE_LEADER
  time sh -c 'until etcdctl --command-timeout=1s put a b; do :; done'   # failover, once

`ab` asks by HTTP and JSON, which costs etcd more than gRPC does; `check perf` asks for at most 15,000 a
second. The client of `bench kv` is a node of the mesh, over QUIC.";
