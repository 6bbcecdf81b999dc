//! Custom components: the kind `helloworld`, which shows how a kind of one's own is added.

pub mod helloworld;
