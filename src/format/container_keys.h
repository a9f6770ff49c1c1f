// Names in a file of ours (docs/design/container.md). Used by the container's reader and writer only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace whit {

inline constexpr std::string_view kWhitArchitecture = "whit";
inline constexpr uint32_t kContainerVersion = 1;
// Of a file with rotations: a reader of version 1 would take the rotated matrices for plain ones.
inline constexpr uint32_t kRotatedVersion = 2;
// Of a file whose residual stream is rotated.
inline constexpr uint32_t kStreamVersion = 3;
inline constexpr std::string_view kVersionKey = "whit.version";
inline constexpr std::string_view kBaseArchitectureKey = "whit.base_architecture";
inline constexpr std::string_view kUnitsKey = "whit.units";
inline constexpr std::string_view kRotationsKey = "whit.rotations";
inline constexpr std::string_view kFactorsTensor = "whit.rotation.factors";
inline constexpr std::string_view kManifestKey = "whit.manifest";
inline constexpr std::string_view kTokenizerTensor = "whit.tokenizer";
inline constexpr std::string_view kTokenizerBytesKey = "whit.tokenizer.raw_bytes";
inline constexpr uint64_t kLargestTokenizer = 64 << 20;

// The file's name for a part: the tensor's own name for a ggml format.
inline std::string part_name(const std::string& tensor, const std::string& suffix) {
  return suffix.empty() ? tensor : tensor + ".whit." + suffix;
}

}  // namespace whit
