#include <array>

#include "base/checked.h"
#include "base/hash.h"
#include "format/gguf.h"
#include "format/gguf_records.h"

namespace whit {
namespace {

// The keys that the writer itself is answerable for, in the order in which they are written.
KeyValues written_metadata(const KeyValues& metadata, size_t tensors, bool checksums, uint64_t alignment) {
  KeyValues out;
  for (const KeyValue& item : metadata.all()) {
    if (item.key == "general.alignment" || item.key == kHeaderChecksumKey || item.key == kTensorChecksumsKey) continue;
    WHIT_CHECK(checksums || !item.key.starts_with("whit."));
    out.append(item.key, item.value);
  }
  if (alignment != 32) out.append("general.alignment", static_cast<uint32_t>(alignment));
  if (checksums) {
    out.append(std::string(kTensorChecksumsKey), std::vector<uint64_t>(tensors));
    out.append(std::string(kHeaderChecksumKey), uint64_t{0});
  }
  return out;
}

std::string header_bytes(const KeyValues& metadata, std::span<const GgufOutput> tensors, uint64_t alignment) {
  std::string out = "GGUF";
  append_number<uint32_t>(out, 3);
  append_number<uint64_t>(out, tensors.size());
  append_number<uint64_t>(out, metadata.all().size());
  for (const KeyValue& item : metadata.all()) append_record(out, item);
  uint64_t offset = 0;
  for (const GgufOutput& tensor : tensors) {
    WHIT_CHECK(tensor.name.size() < 64 && tensor.dimensions.size() <= 4);
    append_string(out, tensor.name);
    append_number<uint32_t>(out, static_cast<uint32_t>(tensor.dimensions.size()));
    for (const uint64_t size : tensor.dimensions) append_number<uint64_t>(out, size);
    append_number<int32_t>(out, static_cast<int32_t>(tensor.type));
    append_number<uint64_t>(out, offset);
    offset = round_up(offset + tensor.bytes, alignment);
  }
  return out;
}

void write_padding(AtomicFile& out, uint64_t alignment) {
  static constexpr std::array<std::byte, 64> kZeros{};
  const uint64_t missing = round_up(out.size(), alignment) - out.size();
  WHIT_CHECK(missing <= kZeros.size());
  out.write(std::span(kZeros).first(missing));
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

uint64_t gguf_file_bytes(const KeyValues& metadata, std::span<const GgufOutput> tensors, bool checksums,
                         uint64_t alignment) {
  uint64_t bytes =
      header_bytes(written_metadata(metadata, tensors.size(), checksums, alignment), tensors, alignment).size();
  if (!tensors.empty()) bytes = round_up(bytes, alignment);
  for (const GgufOutput& tensor : tensors) bytes += round_up(tensor.bytes, alignment);
  return bytes;
}

void write_gguf(AtomicFile& out, KeyValues metadata, std::span<const GgufOutput> tensors, bool checksums,
                uint64_t alignment) {
  WHIT_CHECK(out.size() == 0 && (alignment == 32 || alignment == 64));
  metadata = written_metadata(metadata, tensors.size(), checksums, alignment);
  // The header's size does not depend on the checksums: it is written first with zeros, and over them at the end.
  out.write(header_bytes(metadata, tensors, alignment));
  if (!tensors.empty()) write_padding(out, alignment);
  std::vector<uint64_t> sums;
  for (const GgufOutput& tensor : tensors) {
    const uint64_t begin = out.size();
    Xxh3 sum;
    tensor.write([&](std::span<const std::byte> bytes) {
      out.write(bytes);
      if (checksums) sum.add(bytes);
    });
    WHIT_CHECK(out.size() - begin == tensor.bytes);
    sums.push_back(sum.value());
    write_padding(out, alignment);
  }
  if (!checksums) return;
  metadata.set(std::string(kTensorChecksumsKey), std::move(sums));
  const uint64_t header_sum = xxh3_64(bytes_of(header_bytes(metadata, tensors, alignment)));
  metadata.set(std::string(kHeaderChecksumKey), header_sum);
  out.write_at(0, bytes_of(header_bytes(metadata, tensors, alignment)));
}

}  // namespace whit
