//! The value of an option that binds a socket to a device.

/// Most bytes of a device's name (`IFNAMSIZ`).
const MAX_DEVICE: usize = 16;

/// A device's name or number, as an option has it. The kernel reads no more of it than this holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceValue {
    len: u8,
    bytes: [u8; MAX_DEVICE],
}

impl DeviceValue {
    /// The value, cut as the kernel cuts it.
    #[must_use]
    pub fn new(value: &[u8]) -> Self {
        let mut bytes = [0; MAX_DEVICE];
        for (to, from) in bytes.iter_mut().zip(value) {
            *to = *from;
        }
        Self { len: u8::try_from(value.len().min(MAX_DEVICE)).unwrap_or_default(), bytes }
    }

    /// The value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}
