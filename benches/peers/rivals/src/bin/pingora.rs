//! A minimal Pingora proxy. `pingora PORT GATEWAY WORKERS [CA]`

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

struct Forward {
    gateway: u16,
    tls: bool,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(("127.0.0.1", self.gateway), self.tls, "localhost".to_owned())))
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let conf = ServerConf {
        threads: args[2].parse().unwrap(),
        ca_file: args.get(3).cloned(),
        upstream_keepalive_pool_size: 256,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let forward = Forward { gateway: args[1].parse().unwrap(), tls: args.len() > 3 };
    let mut service = http_proxy_service(&server.configuration, forward);
    service.add_tcp(&format!("127.0.0.1:{}", args[0]));
    server.add_service(service);
    server.run_forever();
}
