//! Copies records and headers between librdkafka's memory and ours, byte for byte.

use std::{
    borrow::Cow,
    ffi::{CStr, c_char, c_void},
    ptr, slice,
    sync::Arc,
};

use rdkafka::{
    bindings as ffi,
    message::{BorrowedMessage, Message},
    types::{RDKafkaHeaders, RDKafkaRespErr},
};
use saga_core::record::{Header, Record};

/// Topic names, each allocated once.
#[derive(Default)]
pub(crate) struct Topics(Vec<Arc<str>>);

impl Topics {
    pub(crate) fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.0.push(new.clone());
        new
    }
}

/// Copies the message: a borrowed one would keep the client from closing.
pub(crate) fn copy(message: &BorrowedMessage<'_>, topics: &mut Topics) -> Record {
    Record {
        topic: topics.get(message.topic()),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers(message),
    }
}

/// Reads the headers through librdkafka, because rust-rdkafka panics at a name that is not UTF-8.
#[allow(unsafe_code, reason = "rust-rdkafka's reader panics at a header name that is not UTF-8")]
fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut native: *mut RDKafkaHeaders = ptr::null_mut();
    // SAFETY: the message is alive while it is borrowed; the headers that are found belong to it.
    let error = unsafe { ffi::rd_kafka_message_headers(message.ptr(), &raw mut native) };
    if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || native.is_null() {
        return Vec::new();
    }
    // SAFETY: `native` was just returned for this message and lives as long as it.
    let count = unsafe { ffi::rd_kafka_header_cnt(native) };
    (0..count)
        .filter_map(|index| {
            let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) = (ptr::null(), ptr::null(), 0);
            // SAFETY: as above; the three out-pointers are ours.
            let error =
                unsafe { ffi::rd_kafka_header_get_all(native, index, &raw mut name, &raw mut value, &raw mut size) };
            if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return None;
            }
            // SAFETY: librdkafka terminates a name with NUL; one that contains NUL is read up to it.
            let name = unsafe { CStr::from_ptr(name) }.to_bytes().to_vec();
            // SAFETY: a value that is not null has `size` bytes, within the message.
            let value = (!value.is_null()).then(|| unsafe { slice::from_raw_parts(value.cast::<u8>(), size) }.to_vec());
            Some(Header { name: Cow::Owned(name), value })
        })
        .collect()
}

/// Headers in librdkafka's memory, until a message owns them.
pub(crate) struct NativeHeaders(*mut RDKafkaHeaders);

impl NativeHeaders {
    /// Copies the headers in their order: names may be any bytes, values may be none.
    ///
    /// # Errors
    /// What librdkafka says, when it cannot take one of them.
    #[allow(unsafe_code, reason = "rust-rdkafka's writer takes UTF-8 names only, and a dead letter keeps what came")]
    pub(crate) fn copy(headers: &[Header]) -> Result<Self, RDKafkaRespErr> {
        // SAFETY: no preconditions; freed in `drop`, or by librdkafka once a message has taken them.
        let native = Self(unsafe { ffi::rd_kafka_headers_new(headers.len()) });
        for Header { name, value } in headers {
            let (bytes, size) = match value {
                Some(value) => (value.as_ptr().cast(), value.len().cast_signed()),
                // To librdkafka a null pointer is a null value.
                None => (ptr::null(), 0),
            };
            // SAFETY: both buffers outlive the call, which copies them; the sizes are theirs.
            let error = unsafe {
                ffi::rd_kafka_header_add(native.0, name.as_ptr().cast(), name.len().cast_signed(), bytes, size)
            };
            if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(error);
            }
        }
        Ok(native)
    }

    pub(crate) fn ptr(&self) -> *mut RDKafkaHeaders {
        self.0
    }

    /// Gives up ownership: a message owns them now.
    pub(crate) fn taken(self) {
        std::mem::forget(self);
    }
}

impl Drop for NativeHeaders {
    #[allow(unsafe_code, reason = "made by librdkafka, freed by librdkafka")]
    fn drop(&mut self) {
        // SAFETY: ours alone: `taken` forgets those that a message owns.
        unsafe { ffi::rd_kafka_headers_destroy(self.0) }
    }
}
