//! Configuration stores.

mod subscriptions;

use layotto_core::{
    Result,
    configuration::{Item, Selector},
};
use layotto_proto::runtime::v1::{
    ConfigurationItem, DeleteConfigurationRequest, GetConfigurationRequest, GetConfigurationResponse,
    SaveConfigurationRequest,
};

pub(super) use self::subscriptions::subscribe;
use crate::{Runtime, ops::configuration};

pub(super) async fn get(
    runtime: &Runtime,
    request: GetConfigurationRequest,
) -> Result<GetConfigurationResponse> {
    let GetConfigurationRequest {
        store_name,
        app_id,
        group,
        label,
        keys,
        metadata,
        ..
    } = request;
    let selector = Selector {
        app_id,
        group,
        label,
        keys,
        metadata,
    };
    let items = configuration::get(runtime, &store_name, selector).await?;
    Ok(GetConfigurationResponse {
        items: items.into_iter().map(to_wire).collect(),
    })
}

pub(super) async fn save(runtime: &Runtime, request: SaveConfigurationRequest) -> Result<()> {
    let SaveConfigurationRequest {
        store_name,
        app_id,
        items,
        metadata,
    } = request;
    let items = items.into_iter().map(from_wire).collect();
    configuration::set(runtime, &store_name, &app_id, items, &metadata).await
}

pub(super) async fn delete(runtime: &Runtime, request: DeleteConfigurationRequest) -> Result<()> {
    let DeleteConfigurationRequest {
        store_name,
        app_id,
        group,
        label,
        keys,
        metadata,
    } = request;
    let selector = Selector {
        app_id,
        group,
        label,
        keys,
        metadata,
    };
    configuration::delete(runtime, &store_name, selector).await
}

fn to_wire(item: Item) -> ConfigurationItem {
    let Item {
        key,
        content,
        group,
        label,
        tags,
        metadata,
    } = item;
    ConfigurationItem {
        key,
        content,
        group,
        label,
        tags,
        metadata,
    }
}

fn from_wire(item: ConfigurationItem) -> Item {
    let ConfigurationItem {
        key,
        content,
        group,
        label,
        tags,
        metadata,
    } = item;
    Item {
        key,
        content,
        group,
        label,
        tags,
        metadata,
    }
}
