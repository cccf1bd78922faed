use kubeopencode_embedded::cluster::{Cluster, Options};
#[tokio::main]
async fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let c = Cluster::start(Options {
        data_dir: Some(dir),
        listen: Some(0),
        ..Options::default()
    })
    .await
    .unwrap();
    println!("{:?}", c.kubeconfig());
    tokio::signal::ctrl_c().await.ok();
    c.shutdown().await;
}
