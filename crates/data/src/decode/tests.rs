//! Images of all formats, whole and damaged.
#![allow(clippy::unwrap_used)]

use image::{GrayImage, ImageBuffer, Luma, Rgb, Rgba, RgbaImage};

use super::*;

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Left half red, right half blue, 16 wide and 8 high.
fn two_halves() -> RgbImage {
    RgbImage::from_fn(16, 8, |x, _| if x < 8 { Rgb([230, 20, 20]) } else { Rgb([20, 20, 230]) })
}

fn assert_near(found: &Rgb<u8>, wanted: [u8; 3]) {
    let near = found.0.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= 4);
    assert!(near, "{found:?} is not {wanted:?}");
}

#[test]
fn lossless_formats_keep_every_pixel() {
    use ImageFormat::{Bmp, Gif, Png, Pnm, Tiff, WebP};
    for format in [Png, Bmp, WebP, Gif, Tiff, Pnm] {
        assert_eq!(decode(&encode(two_halves(), format)).unwrap(), two_halves(), "{format:?}");
    }
    let jpeg = decode(&encode(two_halves(), ImageFormat::Jpeg)).unwrap();
    assert_near(jpeg.get_pixel(2, 4), [230, 20, 20]);
}

#[test]
fn a_jpeg_of_few_bytes_that_announces_many_pixels_is_refused() {
    let mut bytes = encode(two_halves(), ImageFormat::Jpeg);
    let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x20, 0, 0x20, 0]); // 8192 by 8192
    let error = decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("announces 8192×8192 pixels"), "{error}");
}

#[test]
fn gray_alpha_and_sixteen_bits_become_rgb() {
    let gray = decode(&encode(GrayImage::from_pixel(8, 8, Luma([90])), ImageFormat::Jpeg)).unwrap();
    assert_near(gray.get_pixel(3, 3), [90, 90, 90]);
    let clear = RgbaImage::from_pixel(4, 4, Rgba([10, 20, 30, 0]));
    assert_eq!(decode(&encode(clear, ImageFormat::Png)).unwrap().get_pixel(0, 0).0, [10, 20, 30]);
    let deep: ImageBuffer<Rgb<u16>, _> = ImageBuffer::from_pixel(4, 4, Rgb([0, 32_896, 65_535]));
    assert_eq!(decode(&encode(deep, ImageFormat::Png)).unwrap().get_pixel(0, 0).0, [0, 128, 255]);
}

#[test]
fn sixteen_bits_gray_alpha_and_orientation_of_tiff_and_pnm() {
    let deep: ImageBuffer<Rgb<u16>, _> = ImageBuffer::from_pixel(4, 4, Rgb([0, 32_896, 65_535]));
    for format in [ImageFormat::Tiff, ImageFormat::Pnm] {
        let image = decode(&encode(deep.clone(), format)).unwrap();
        assert_eq!(image.get_pixel(3, 3).0, [0, 128, 255], "{format:?}");
        let gray = encode(GrayImage::from_pixel(4, 4, Luma([90])), format);
        assert_eq!(decode(&gray).unwrap().get_pixel(1, 1).0, [90, 90, 90], "{format:?}");
    }
    let clear = encode(RgbaImage::from_pixel(4, 4, Rgba([10, 20, 30, 0])), ImageFormat::Tiff);
    assert_eq!(decode(&clear).unwrap().get_pixel(0, 0).0, [10, 20, 30]);
    // Two pixels of ink: cyan, then nothing. PhotometricInterpretation 5 is CMYK.
    let cmyk = tiff(5, 4, &[255, 0, 0, 0, 0, 0, 0, 0], 1);
    let image = decode(&cmyk).unwrap();
    assert_eq!(image.dimensions(), (2, 1));
    assert_eq!((image.get_pixel(0, 0).0, image.get_pixel(1, 0).0), ([0, 255, 255], [255; 3]));
    // PhotometricInterpretation 2 is RGB; orientation 6 is to be turned clockwise for viewing.
    let turned = decode(&tiff(2, 3, &[1, 2, 3, 4, 5, 6], 6)).unwrap();
    assert_eq!((turned.dimensions(), turned.get_pixel(0, 1).0), ((1, 2), [4, 5, 6]));
}

/// An uncompressed TIFF of two pixels beside each other with so many channels of eight bits.
fn tiff(photometric: u16, channels: u16, pixels: &[u8], orientation: u16) -> Vec<u8> {
    let entries = [
        (256, 2),           // ImageWidth
        (257, 1),           // ImageLength
        (259, 1),           // Compression: none
        (262, photometric), // PhotometricInterpretation
        (273, 8),           // StripOffsets: the pixels come first
        (274, orientation),
        (277, channels), // SamplesPerPixel
        (278, 1),        // RowsPerStrip
        (279, pixels.len() as u16),
    ];
    let directory = 8 + pixels.len();
    let bits_at = directory + 2 + 12 * (entries.len() + 1) + 4;
    let mut bytes = [b"II*\0".as_slice(), &(directory as u32).to_le_bytes(), pixels].concat();
    bytes.extend((entries.len() as u16 + 1).to_le_bytes());
    let mut field = |tag: u16, count: u32, value: u32| {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(3u16.to_le_bytes()); // SHORT
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    };
    for (tag, value) in entries {
        // Fields are sorted by tag; 258 is BitsPerSample, a number for each channel, which lie
        // behind the directory.
        if tag == 259 {
            field(258, channels.into(), bits_at as u32);
        }
        field(tag, 1, value.into());
    }
    bytes.extend([0; 4]); // no other page
    bytes.extend([8, 0].repeat(channels.into()));
    bytes
}

#[test]
fn the_first_frame_of_a_gif_is_decoded() {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for level in [40, 200] {
        let frame = RgbaImage::from_pixel(6, 5, Rgba([level, level, level, 255]));
        encoder.encode_frame(image::Frame::new(frame)).unwrap();
    }
    drop(encoder);
    let image = decode(&bytes).unwrap();
    assert_eq!((image.dimensions(), image.get_pixel(2, 2).0), ((6, 5), [40; 3]));
}

/// Written by Pillow 12 from inks (0,0,0,0), (255,0,0,0), (0,200,100,0), (40,80,120,60), one to a
/// quarter; ycck.jpg is the same file with Adobe's color transform set to 2. Expected: Pillow's
/// `convert("RGB")`.
#[test]
fn cmyk_and_ycck_are_as_pillow_reads_them() {
    let quarters = [(8, 8), (24, 8), (8, 24), (24, 24)];
    let cases: [(&[u8], [[u8; 3]; 4]); 2] = [
        (include_bytes!("../../tests/images/cmyk.jpg"), CMYK_AS_PILLOW),
        (include_bytes!("../../tests/images/ycck.jpg"), YCCK_AS_PILLOW),
    ];
    for (bytes, colors) in cases {
        let image = decode(bytes).unwrap();
        for ((x, y), color) in quarters.into_iter().zip(colors) {
            assert_near(image.get_pixel(x, y), color);
        }
    }
}

const CMYK_AS_PILLOW: [[u8; 3]; 4] =
    [[255, 255, 255], [0, 255, 255], [255, 55, 155], [164, 134, 103]];
const YCCK_AS_PILLOW: [[u8; 3]; 4] = [[0, 134, 0], [77, 255, 30], [0, 0, 129], [23, 47, 0]];

/// Inserts an EXIF segment that holds nothing but an orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let header = [b'I', b'I', 42, 0, 8, 0, 0, 0]; // little-endian; the directory is at 8
    let entry = [1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    let tiff = [header.as_slice(), &entry, &[0; 4]].concat();
    let length = u8::try_from(2 + 6 + tiff.len()).unwrap();
    [&jpeg[..2], &[0xFF, 0xE1, 0, length], b"Exif\0\0", &tiff, &jpeg[2..]].concat()
}

#[test]
fn exif_orientation_is_applied() {
    let jpeg = encode(two_halves(), ImageFormat::Jpeg);
    let turned = decode(&with_orientation(&jpeg, 6)).unwrap(); // to be turned clockwise for viewing
    assert_eq!(turned.dimensions(), (8, 16));
    assert_near(turned.get_pixel(4, 2), [230, 20, 20]);
    let mirrored = decode(&with_orientation(&jpeg, 2)).unwrap();
    assert_near(mirrored.get_pixel(2, 4), [20, 20, 230]);
}

#[test]
fn a_cut_file_is_an_error_in_every_format() {
    let noise = RgbImage::from_fn(64, 64, |x, y| {
        let value = (x * 7919 + y * 104_729) % 251;
        Rgb([value as u8, (value / 2) as u8, (255 - value) as u8])
    });
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    for format in [Jpeg, Png, Bmp, WebP, Gif, Tiff, Pnm] {
        let bytes = encode(noise.clone(), format);
        assert!(decode(&bytes).is_ok(), "{format:?}");
        for part in [bytes.len() / 4, bytes.len() / 2, bytes.len() * 9 / 10] {
            assert!(decode(&bytes[..part]).is_err(), "{format:?} cut at {part}");
        }
    }
}

#[test]
fn a_thumbnail_end_does_not_hide_the_cut_and_trailing_bytes_are_no_cut() {
    let jpeg = encode(two_halves(), ImageFormat::Jpeg);
    let thumbnail = [&jpeg[..2], &[0xFF, 0xE2, 0, 6, 0xFF, 0xD9, 0xFF, 0xD9], &jpeg[2..]].concat();
    assert!(decode(&thumbnail).is_ok());
    assert!(decode(&thumbnail[..thumbnail.len() - 20]).is_err());
    assert!(decode(&[jpeg.as_slice(), &[0; 30]].concat()).is_ok());
}

#[test]
fn a_scan_for_each_channel_is_refused_and_not_shown_wrong() {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 89);
    encoder.set_optimized_huffman_tables(true);
    encoder.encode(two_halves().as_raw(), 16, 8, jpeg_encoder::ColorType::Rgb).unwrap();
    assert!(decode(&bytes).unwrap_err().to_string().contains("3 scans"));
}

#[test]
fn what_is_no_image_says_so() {
    for bytes in [b"just some text".as_slice(), b"", b"#?RADIANCE"] {
        let error = decode(bytes).unwrap_err().to_string();
        assert!(error.ends_with("not a JPEG, PNG, WebP, BMP, GIF, TIFF or PNM image"), "{error}");
    }
    let heic = decode(b"\0\0\0\x18ftypheic\0\0\0\0").unwrap_err().to_string();
    assert!(heic.contains("HEIC") && heic.contains("convert it to JPEG"), "{heic}");
    let error = decode(b"GIF89a\x01\0\x01\0\0\0\0;").unwrap_err().to_string();
    assert!(error.contains("the Gif image cannot be decoded"), "it has no frame: {error}");
}

#[test]
fn a_forged_size_is_refused_before_decoding() {
    let mut bitmap = encode(two_halves(), ImageFormat::Bmp);
    bitmap[18..26].copy_from_slice(&[0, 0, 1, 0, 0, 0, 1, 0]); // 65,536 × 65,536
    assert!(decode(&bitmap).is_err());
}
