//! The peers, one per file, so that a reader can check that each is used as its documentation says.

mod aliri;
mod aws_expiring;
mod aws_lazy;
mod azure;
mod connect_rpc;
mod huskarl;
mod moka;
mod reqsign;
mod single_flights;
mod tokenflight;

#[cfg(feature = "servers")]
mod cf_gears;
#[cfg(feature = "servers")]
mod gcp_auth;
#[cfg(feature = "servers")]
mod google_cloud;
#[cfg(feature = "servers")]
mod middle;
#[cfg(feature = "servers")]
mod yup_oauth2;

use crate::peer::Failure;
use crate::primitives;
use crate::row::{Kind, Row};

/// Everything that is measured, each with a token at hand for its hot reads.
pub async fn rows() -> Result<Vec<Row>, Failure> {
    let current = tokenflight::Current::new().await?;
    let mut rows = vec![
        Row::read("tokenflight, `current()`", "", Kind::Ours, current),
        Row::peer::<tokenflight::Tokenflight>(Kind::Ours).await?,
        Row::peer::<tokenflight::OneAttempt>(Kind::Ours).await?.without_reads(),
        Row::peer::<aws_expiring::AwsExpiring>(Kind::Peer).await?,
        Row::peer::<aws_lazy::AwsLazy>(Kind::Peer).await?,
        Row::peer::<azure::Azure>(Kind::Peer).await?,
        Row::peer::<huskarl::Huskarl>(Kind::Peer).await?,
        Row::peer::<aliri::Aliri>(Kind::Peer).await?,
        Row::peer::<moka::Moka>(Kind::Peer).await?,
        Row::peer::<reqsign::Reqsign>(Kind::Peer).await?,
        Row::peer::<connect_rpc::ConnectRpc>(Kind::Peer).await?,
        Row::peer::<single_flights::AsyncSingleflight>(Kind::Peer).await?,
        Row::peer::<single_flights::SingleflightAsync>(Kind::Peer).await?,
    ];
    #[cfg(feature = "servers")]
    rows.extend([
        Row::peer::<google_cloud::GoogleCloud>(Kind::Peer).await?,
        Row::peer::<gcp_auth::GcpAuth>(Kind::Peer).await?,
        Row::peer::<yup_oauth2::YupOauth2>(Kind::Peer).await?,
        Row::peer::<middle::Middle>(Kind::Peer).await?,
        Row::peer::<cf_gears::CfGears>(Kind::Peer).await?,
    ]);
    rows.extend(references());
    Ok(rows)
}

fn references() -> [Row; 5] {
    let row = Kind::Primitive;
    [
        Row::read("`Instant::now()` alone", "", row, primitives::Now),
        Row::read("`ArcSwap` guard + `Instant::now()`", "borrowed", row, primitives::Guard::new()),
        Row::read("`ArcSwap` `load_full` + `Instant::now()`", "owned", row, primitives::LoadFull::new()),
        Row::read(
            "`std::sync::RwLock<Arc<_>>` + `Instant::now()`",
            "owned",
            row,
            primitives::StdRwLock::new(),
        ),
        Row::read(
            "`tokio::sync::Mutex<Arc<_>>` + `Instant::now()`",
            "owned",
            row,
            primitives::TokioMutex::new(),
        ),
    ]
}
