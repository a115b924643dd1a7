//! Bytes that were read, and not decoded yet.

/// Replies are small; this much holds a few hundred.
const CAPACITY: usize = 16 * 1024;

/// Grows for a reply that needs more, which the decoder bounds, and shrinks again.
pub(in super::super) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    pub fn new() -> Self {
        Self { bytes: vec![0; CAPACITY], start: 0, end: 0 }
    }

    /// Where the next bytes go; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                self.bytes.resize(2 * self.end, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were put into the space.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Puts these bytes into the space.
    #[cfg(unix)]
    pub fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let (now, later) = bytes.split_at(bytes.len().min(space.len()));
            space[..now.len()].copy_from_slice(now);
            self.filled(now.len());
            bytes = later;
        }
    }

    /// The bytes that are there.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// So many of them are not needed any more.
    pub fn used(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > CAPACITY {
                self.bytes = vec![0; CAPACITY];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_and_the_buffer_shrinks_again() {
        let mut buffer = ReadBuffer::new();
        let (mut put, mut got) = (0_u32, 0_u32);
        for round in 0..50 {
            for _ in 0..2_000 {
                let byte = put.to_le_bytes()[0];
                buffer.space()[0] = byte;
                buffer.filled(1);
                put += 1;
            }
            let take = if round % 10 == 9 { buffer.bytes().len() } else { 700 };
            for &byte in &buffer.bytes()[..take] {
                assert_eq!(byte, got.to_le_bytes()[0]);
                got += 1;
            }
            buffer.used(take);
        }
        assert_eq!((put, buffer.bytes.len()), (got, CAPACITY));
    }
}
