//! Every method served, with its path as HTTP/2 has it.

/// Which server answers a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Runtime,
    Lifecycle,
    /// One of the extension services: described and listed, not implemented.
    Extension,
    Health,
    ReflectionV1,
    ReflectionV1Alpha,
}

/// One method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Method {
    pub(super) path: &'static str,
    pub(super) server: Server,
    /// Answers with a stream of messages, whose outcome is known at its end.
    pub(super) streams: bool,
}

const fn unary(server: Server, path: &'static str) -> Method {
    Method {
        path,
        server,
        streams: false,
    }
}

const fn streaming(server: Server, path: &'static str) -> Method {
    Method {
        path,
        server,
        streams: true,
    }
}

/// Every method; a test holds it against the descriptors.
pub(super) const METHODS: &[Method] = &[
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/SayHello"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/InvokeService"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/GetConfiguration"),
    unary(
        Server::Runtime,
        "/spec.proto.runtime.v1.Runtime/SaveConfiguration",
    ),
    unary(
        Server::Runtime,
        "/spec.proto.runtime.v1.Runtime/DeleteConfiguration",
    ),
    streaming(
        Server::Runtime,
        "/spec.proto.runtime.v1.Runtime/SubscribeConfiguration",
    ),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/TryLock"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/Unlock"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/LockKeepAlive"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/GetNextId"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/GetState"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/GetBulkState"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/SaveState"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/DeleteState"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/DeleteBulkState"),
    unary(
        Server::Runtime,
        "/spec.proto.runtime.v1.Runtime/ExecuteStateTransaction",
    ),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/PublishEvent"),
    streaming(
        Server::Runtime,
        "/spec.proto.runtime.v1.Runtime/SubscribeTopicEvents",
    ),
    streaming(Server::Runtime, "/spec.proto.runtime.v1.Runtime/GetFile"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/PutFile"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/ListFile"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/DelFile"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/GetFileMeta"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/InvokeBinding"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/GetSecret"),
    unary(Server::Runtime, "/spec.proto.runtime.v1.Runtime/GetBulkSecret"),
    unary(
        Server::Lifecycle,
        "/spec.proto.runtime.v1.Lifecycle/ApplyConfiguration",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.cryption.CryptionService/Encrypt",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.cryption.CryptionService/Decrypt",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.delay_queue.DelayQueue/PublishDelayMessage",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.email.EmailService/SendEmailWithTemplate",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.email.EmailService/SendEmail",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.phone.PhoneCallService/SendVoiceWithTemplate",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/PutObject",
    ),
    streaming(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/GetObject",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/DeleteObject",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/CopyObject",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/DeleteObjects",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/ListObjects",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/HeadObject",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/IsObjectExist",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/PutObjectTagging",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/DeleteObjectTagging",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/GetObjectTagging",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/GetObjectCannedAcl",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/PutObjectCannedAcl",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/CreateMultipartUpload",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/UploadPart",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/UploadPartCopy",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/CompleteMultipartUpload",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/AbortMultipartUpload",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/ListMultipartUploads",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/ListParts",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/ListObjectVersions",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/SignURL",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/UpdateDownloadBandwidthRateLimit",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/UpdateUploadBandwidthRateLimit",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/AppendObject",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.s3.ObjectStorageService/RestoreObject",
    ),
    unary(
        Server::Extension,
        "/spec.proto.extension.v1.sms.SmsService/SendSmsWithTemplate",
    ),
    unary(Server::Health, "/grpc.health.v1.Health/Check"),
    streaming(Server::Health, "/grpc.health.v1.Health/Watch"),
    streaming(
        Server::ReflectionV1,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ),
    streaming(
        Server::ReflectionV1Alpha,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ),
];

/// The services served, by full name, without repeats.
pub(super) fn services() -> Vec<&'static str> {
    let mut names: Vec<_> = METHODS
        .iter()
        .filter_map(|method| split(method.path))
        .map(|(service, _)| service)
        .collect();
    names.dedup();
    names
}

/// Service and method of a path; a query is no part of a gRPC path and must not be in it.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.rsplit_once('/')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn holds_the_methods_of_the_descriptors() {
        let set = FileDescriptorSet::decode(layotto_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut described = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    described.insert((path, method.server_streaming()));
                }
            }
        }
        // Services that this process calls rather than serves.
        described.retain(|(path, _)| !path.contains(".AppCallback/") && !path.contains(".hello.Hello/"));
        let listed: BTreeSet<_> = METHODS
            .iter()
            .filter(|method| !method.path.starts_with("/grpc."))
            .map(|method| (method.path.to_owned(), method.streams))
            .collect();
        assert_eq!(listed, described);
    }

    #[test]
    fn splits_at_the_last_slash() {
        assert_eq!(split("/a.B/C"), Some(("a.B", "C")));
        assert_eq!(split("//a.B/C"), Some(("/a.B", "C")));
        assert_eq!(split("a"), None);
        assert_eq!(split("/a"), None);
    }
}
