//! Asks what the bridge may do with the topic, before it writes anything. The `rdkafka` crate has no safe
//! function for this request. A request of our own would have to log in as librdkafka does, by every
//! mechanism.

use std::ffi::CString;
use std::ptr::null_mut;
use std::slice;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::bindings::rd_kafka_AclOperation_t::{
    RD_KAFKA_ACL_OPERATION_READ as READ, RD_KAFKA_ACL_OPERATION_WRITE as WRITE,
};
use rdkafka::bindings::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS as DESCRIBE_TOPICS;
use rdkafka::producer::Producer;

use super::classify::who;
use super::delivery_reports::KafkaClient;
use super::names::Names;
use crate::finding::codes;
use crate::sink::SinkError;

/// What the login of a client may do with the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) write: bool,
    pub(super) read: bool,
}

/// The topic can't be read back: the login has no permission.
pub(super) fn may_not_read(names: &Names) -> SinkError {
    let message =
        format!("{}not allowed to read the topic {}: give the bridge Read on it", who(names), names.topic);
    SinkError::misconfigured(message).coded(codes::KAFKA_READ_DENIED)
}

/// Returns what the login of this client may do with the topic; `None` if the brokers do not say, because not
/// every cluster answers. Blocks for at most `within`.
#[expect(unsafe_code, reason = "the crate has no safe name for it")]
pub(super) fn rights(client: &KafkaClient, topic: &str, within: Duration) -> Option<Rights> {
    let name = CString::new(topic).ok()?;
    let within = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    let handle = client.client().native_ptr();
    // SAFETY: the handle lives as long as `client`, and any thread may send requests. Everything that is made
    // here is destroyed here, after its last use. Every pointer is checked for null before its use. The
    // request copies the names and the options. A queue may be destroyed before its answer comes: the answer
    // is then dropped.
    unsafe {
        let options = native::rd_kafka_AdminOptions_new(handle, DESCRIBE_TOPICS);
        let error = native::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        let mut unread = [0; 128];
        native::rd_kafka_AdminOptions_set_request_timeout(options, within, unread.as_mut_ptr(), unread.len());
        let mut names = [name.as_ptr()];
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let queue = native::rd_kafka_queue_new(handle);
        let answer = if error.is_null() {
            native::rd_kafka_DescribeTopics(handle, topics, options, queue);
            native::rd_kafka_queue_poll(queue, within)
        } else {
            native::rd_kafka_error_destroy(error);
            null_mut()
        };
        let rights = if answer.is_null() { None } else { rights_in(answer) };
        if !answer.is_null() {
            native::rd_kafka_event_destroy(answer);
        }
        native::rd_kafka_queue_destroy(queue);
        native::rd_kafka_TopicCollection_destroy(topics);
        native::rd_kafka_AdminOptions_destroy(options);
        rights
    }
}

/// # Safety
/// `answer` is an event that nobody has destroyed.
#[expect(unsafe_code, reason = "the crate has no safe name for it")]
unsafe fn rights_in(answer: *mut native::rd_kafka_event_t) -> Option<Rights> {
    // SAFETY: the returned pointers belong to the event and live as long as it. None of them is used if it is
    // null.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(answer);
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return None;
        }
        let topic = *topics;
        let mut count = 0;
        let operations = native::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        // There are no operations for a topic that could not be described.
        if operations.is_null() || count == 0 {
            return None;
        }
        // Compared as numbers, because brokers may know operations that this library does not.
        let operations = slice::from_raw_parts(operations.cast::<u32>(), count);
        let may = |operation| operations.contains(&(operation as u32));
        Some(Rights { write: may(WRITE), read: may(READ) })
    }
}
