//! What can happen to the answer of a watch: its events come late or twice, and it breaks.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::pending, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use tokio::time::sleep;
use tower::BoxError;

use super::{Body, Line};

impl Line {
    pub(super) fn watched(&self, answer: Response<Body>, what: &str) -> Response<Body> {
        let line = self.clone();
        let about = what.to_owned();
        let pieces = BodyStream::new(answer.into_body())
            .then(move |piece| line.clone().carry(piece, about.clone()))
            .flat_map(stream::iter);
        let line = self.clone();
        let breaks = async move { line.breaks().await }.boxed();
        Response::new(StreamBody::new(pieces.take_until(breaks)).boxed_unsync())
    }

    /// One piece of the answer: some lines, each an event.
    async fn carry(
        self,
        piece: Result<Frame<Bytes>, BoxError>,
        what: String,
    ) -> Vec<Result<Frame<Bytes>, BoxError>> {
        self.takes_time().await;
        let dice = self.network.dice.clone();
        let mut again = None;
        if !self.network.is_calm() && dice.chance(self.quality.late) {
            if dice.chance(700) {
                let by = dice.seconds(1..180);
                self.say(format_args!("~ {what}: an event comes {by:?} late"));
                sleep(by).await;
            } else if let Ok(Some(bytes)) = piece.as_ref().map(Frame::data_ref) {
                self.say(format_args!("~ {what}: an event comes twice"));
                again = last_line(bytes).map(|line| Ok(Frame::data(line)));
            }
        }
        self.until_through().await;
        std::iter::once(piece).chain(again).collect()
    }

    /// Ready when the connection breaks.
    async fn breaks(&self) {
        let broken = async {
            if self.quality.late == 0 {
                return pending().await;
            }
            sleep(self.network.dice.seconds(5..3600)).await;
            if self.network.is_calm() {
                pending::<()>().await;
            }
        };
        let mut outage = self.network.outage.subscribe();
        tokio::select! {
            biased;
            () = broken => {}
            () = async {
                // The network lives as long as this line.
                let _ = outage.wait_for(|lasts| *lasts).await;
            } => {}
        }
    }
}

fn last_line(bytes: &Bytes) -> Option<Bytes> {
    let end = bytes.len().checked_sub(1)?;
    let begin = bytes[..end].iter().rposition(|byte| *byte == b'\n');
    Some(bytes.slice(begin.map_or(0, |at| at + 1)..))
}
