//! Why a balanced call failed, and on which server.

use std::sync::Arc;

use crate::balance::discovery::DiscoveryError;
use crate::error::Error;
use crate::http::endpoint::Endpoint;

/// Why a balanced call failed, and on which server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// There is no server to call.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// No server could be dialed, or not in time. Nothing was sent. This is the last one that was tried.
    #[error("cannot connect to {endpoint}: {source}")]
    Dial {
        /// The server.
        endpoint: Endpoint,
        /// What went wrong there.
        source: Arc<Error>,
    },
    /// The call itself failed.
    #[error("{endpoint}: {source}")]
    Call {
        /// The server.
        endpoint: Endpoint,
        /// What went wrong there.
        source: Error,
    },
}

impl BalanceError {
    /// Whether a server may have run the call, or a part of it: [`Error::may_have_run`] of the call itself. While
    /// a server is chosen or dialed, nothing has run.
    pub fn may_have_run(&self) -> bool {
        match self {
            BalanceError::Discovery(_) | BalanceError::Dial { .. } => false,
            BalanceError::Call { source, .. } => source.may_have_run(),
        }
    }
}
