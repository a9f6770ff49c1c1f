#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "base/hash.h"
#include "format/gguf.h"
#include "format/gguf_records.h"

namespace whit {
namespace {

[[noreturn]] void damaged(const std::string& file, const std::string& what, const std::string& place,
                          const std::string& found = {}) {
  throw Error(ErrorKind::integrity, what, fmt::format("{}: {}", file, place), found,
              "the file is damaged: make or fetch it again (--no-verify reads it all the same)");
}

bool has_whit_key(const KeyValues& metadata) {
  return std::any_of(metadata.all().begin(), metadata.all().end(),
                     [](const KeyValue& item) { return item.key.starts_with("whit."); });
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

Integrity verify_checksums(const GgufFile& gguf, std::span<const std::byte> bytes, const std::string& name) {
  if (!has_whit_key(gguf.metadata)) return Integrity::absent;
  const Value* header = gguf.metadata.find(kHeaderChecksumKey);
  const Value* sums = gguf.metadata.find(kTensorChecksumsKey);
  const uint64_t* header_sum = header ? std::get_if<uint64_t>(header) : nullptr;
  const auto* tensor_sums = sums ? std::get_if<std::vector<uint64_t>>(sums) : nullptr;
  if (!header_sum) damaged(name, "the header has no checksum", "header", header ? type_name(*header) : "");
  static constexpr std::array<std::byte, sizeof(uint64_t)> kZeros{};
  Xxh3 sum;
  sum.add(bytes.first(gguf.header_checksum_at)).add(kZeros);
  sum.add(bytes.subspan(gguf.header_checksum_at + kZeros.size(),
                        gguf.header_bytes - gguf.header_checksum_at - kZeros.size()));
  if (sum.value() != *header_sum)
    damaged(name, "the header does not match its checksum", "header",
            fmt::format("{:016x}, wanted {:016x}", sum.value(), *header_sum));
  if (!tensor_sums || tensor_sums->size() != gguf.tensors.size())
    damaged(name, "the tensors have no checksums", "header", sums ? type_name(*sums) : "");

  if (!all_zero(bytes.subspan(gguf.header_bytes, gguf.data_start - gguf.header_bytes)))
    damaged(name, "the padding after the header is not zero", "header");
  uint64_t end = gguf.data_start;
  for (size_t i = 0; i < gguf.tensors.size(); ++i) {
    const GgufTensor& tensor = gguf.tensors[i];
    const std::string place = "tensor " + tensor.name;
    if (const uint64_t found = xxh3_64(tensor.data); found != (*tensor_sums)[i])
      damaged(name, "a tensor does not match its checksum", place,
              fmt::format("{:016x}, wanted {:016x}", found, (*tensor_sums)[i]));
    const uint64_t data_end = gguf.data_start + tensor.offset + tensor.data.size();
    end = round_up(data_end - gguf.data_start, gguf.alignment) + gguf.data_start;
    if (end > bytes.size()) damaged(name, "the file ends inside the padding of its last tensor", place);
    if (!all_zero(bytes.subspan(data_end, end - data_end)))
      damaged(name, "the padding after a tensor is not zero", place);
  }
  if (end != bytes.size())
    damaged(name, "the file goes on after its last tensor", "end", fmt::format("{} bytes", bytes.size() - end));
  return Integrity::ok;
}

Integrity verify_checksums(const GgufFile& gguf) {
  WHIT_CHECK(gguf.file != nullptr);
  return verify_checksums(gguf, gguf.file->bytes(), gguf.file->path().string());
}

}  // namespace whit
