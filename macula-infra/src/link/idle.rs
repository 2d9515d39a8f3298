//! Connections at work on both ends, without a policy that would let go of them: for benches.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use macula_core::supervision::{Root, Supervisor, TreeOptions};
use tokio_util::sync::CancellationToken;

use super::{Caps, Link, Services};
use crate::access::{Access, Rules};
use crate::pool::proto::ConnId;
use crate::remote::{RemoteService, Served};
use crate::transport::tls::Credentials;
use crate::transport::{Admission, Config, Connection, Endpoint, Me, Sockets};

/// Many connections between two endpoints of this process, each with its link and its actor on
/// both ends.
#[derive(Debug)]
pub struct Idle {
    root: Root,
    dialler: Endpoint,
    address: SocketAddr,
    arrivals: tokio::sync::mpsc::Receiver<Connection>,
    _acceptor: Endpoint,
    links: Vec<Arc<Link>>,
    services: Services,
    gone: CancellationToken,
}

impl Idle {
    /// Two endpoints, and no connection yet.
    ///
    /// # Errors
    ///
    /// If an endpoint or the tree cannot be started.
    pub async fn start(
        acceptor: Credentials,
        dialler: Credentials,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        // All come from one address, as fast as they can.
        let admission = Admission {
            connections_per_address_max: usize::MAX,
            attempts_per_address_per_s: u32::MAX,
            ..Admission::default()
        };
        let listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        let access = Access::new(acceptor.clone(), [0; 32], Rules::default());
        let config = Config { listen, admission, ..Config::default() };
        let (acceptor, arrivals) = endpoint(config.clone(), acceptor).await?;
        let address = *acceptor.listening().first().ok_or("it does not listen")?;
        let (dialler, _none) = endpoint(Config { listen: Vec::new(), ..config }, dialler).await?;
        let root = Supervisor::dynamic("peers", 1_000_000)?.start(TreeOptions::default()).await?;
        Ok(Self {
            root,
            dialler,
            address,
            arrivals,
            _acceptor: acceptor,
            links: Vec::new(),
            services: Services::default().with(Arc::new(RemoteService(Served::new(access)))),
            gone: CancellationToken::new(),
        })
    }

    /// Makes some more connections.
    ///
    /// # Errors
    ///
    /// If one cannot be made.
    pub async fn grow(
        &mut self,
        count: usize,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for _ in 0..count {
            let dialled = self.dialler.dial(self.address, None).await?;
            let accepted = self.arrivals.recv().await.ok_or("the endpoint is gone")?;
            self.put_to_work(dialled).await?;
            self.put_to_work(accepted).await?;
        }
        Ok(())
    }

    async fn put_to_work(
        &mut self,
        connection: Connection,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let config = self.dialler.config();
        let caps = Caps {
            limits: config.limits(),
            body_len_max: config.body_len_max,
            lane_len_max: config.lane_len_max,
            writes_apart: config.writes_apart,
        };
        let id = ConnId(u64::try_from(self.links.len())?);
        let (link, ends) = Link::new(id, connection, caps, &self.services, Box::new(|| {}));
        let ended = Box::new(|_: &Arc<Link>, _| {});
        let worker = super::child(&link, ends, self.gone.clone(), ended);
        self.root.handle().start_child(worker).await?;
        self.links.push(link);
        Ok(())
    }

    /// Closes them all.
    pub async fn stop(self) {
        self.root.stop().await;
    }
}

async fn endpoint(
    config: Config,
    credentials: Credentials,
) -> Result<(Endpoint, tokio::sync::mpsc::Receiver<Connection>), crate::transport::StartError> {
    let sockets = Arc::new(Sockets::bind(&config)?);
    let me =
        Me { credentials, incarnation: 1, listen: sockets.listening(), realm: [0; 32], seed: None };
    Endpoint::start(config, sockets, me).await
}
