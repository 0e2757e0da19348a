//! The partition of a key, by Kafka's `murmur2_random`.

use std::ptr;

use rdkafka::bindings as ffi;

/// The partition that Java clients (`murmur2`, `murmur2_random`) and our producer choose for this key among so many. A
/// record without a key may be on any.
#[allow(unsafe_code, reason = "librdkafka's own partitioner, so that both always agree")]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    // SAFETY: the key's bytes and their number; neither the topic nor the two opaque pointers are looked at.
    unsafe {
        ffi::rd_kafka_msg_partitioner_murmur2(
            ptr::null(),
            key.as_ptr().cast(),
            key.len(),
            partitions.max(1),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `UtilsTest.testMurmur2` of Apache Kafka.
    #[test]
    fn a_key_goes_where_java_clients_put_it() {
        let java: [(&str, i32); 4] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ];
        for (key, hash) in java {
            assert_eq!(partition_of(key.as_bytes(), 6), (hash & 0x7fff_ffff) % 6, "{key}");
        }
    }
}
