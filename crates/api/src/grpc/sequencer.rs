//! Unique ids.

use layotto_core::Result;
use layotto_proto::runtime::v1::{GetNextIdRequest, GetNextIdResponse, sequencer_options::AutoIncrement};

use crate::{
    Runtime,
    ops::sequencer::{self, Increment},
};

pub(super) async fn next_id(runtime: &Runtime, request: GetNextIdRequest) -> Result<GetNextIdResponse> {
    let GetNextIdRequest {
        store_name,
        key,
        options,
        metadata,
    } = request;
    // Options that are absent mean WEAK, whatever upstream's comments say.
    let increment = AutoIncrement::try_from(options.unwrap_or_default().increment).ok();
    let increment = increment.map(|increment| match increment {
        AutoIncrement::Weak => Increment::Weak,
        AutoIncrement::Strong => Increment::Strong,
    });
    let next_id = sequencer::next_id(runtime, &store_name, &key, increment, &metadata).await?;
    Ok(GetNextIdResponse { next_id })
}
