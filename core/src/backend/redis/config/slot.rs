//! The hash slot of a resource, which decides what node of a cluster owns it.

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// CRC16/XMODEM of every byte.
const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The slot of all keys of a resource. Redis hashes what is between the first `{` and the next `}`: the
/// resource up to its first `}`, or its hexadecimal digits if it starts with that; see [`super::keys::Keys`].
pub(crate) fn slot_of(resource: &str) -> u16 {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let crc = if resource.starts_with('}') {
        crc16(
            resource.bytes().flat_map(|byte| [byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)])),
        )
    } else {
        crc16(resource.bytes().take_while(|&byte| byte != b'}'))
    };
    crc % SLOTS
}

fn crc16(bytes: impl Iterator<Item = u8>) -> u16 {
    bytes.fold(0, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789".iter().copied()), 0x31c3);
        for (resource, slot) in [("foo", 12_182), ("a", 15_495), ("b", 3_300)] {
            assert_eq!(slot_of(resource), slot, "{resource}");
        }
        assert_eq!(slot_of("{order:5}:stock"), slot_of("{order:5}:bill"));
        assert_eq!(slot_of("foo}bar"), 12_182, "a tag ends at the first brace");
    }
}
