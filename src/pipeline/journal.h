// The journal of a run: every finished unit is durable (write, fsync, rename), so that a killed run goes on where it
// was. A folder beside the output: OUT.journal/ with key.json, lock, one file per unit, and one per block that was
// reconstructed.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/options.h"
#include "base/record.h"
#include "format/format.h"
#include "methods/stages.h"
#include "pipeline/plan.h"

namespace whit {

class Journal {
 public:
  // Opens or creates `folder`. `key` holds everything that decides the bytes of the result (hashes of model and data,
  // recipe, seed, ISA, threads). A journal of another key is ErrorKind::usage and stays untouched, unless nothing
  // is finished in it; one that another process holds is ErrorKind::io.
  Journal(std::filesystem::path folder, const Json& key);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  bool has(const std::string& unit) const;
  // `latents` (TensorState) are kept in a file of their own, for a tune step.
  void store(const std::string& unit, const Packed& packed, const StageReport& report,
             const std::vector<Matrix>& latents = {});
  std::vector<Matrix> latents(const std::string& unit) const;  // empty: none were stored
  // Checks the entry's checksum and its format; damage is ErrorKind::integrity that names the entry to delete.
  // The basis is not in the entry: a plan knows it.
  std::shared_ptr<Packed> load(const std::string& unit) const;
  StageReport report(const std::string& unit) const;

  // A block whose units learned together: stored after all of them, so that a block without this entry is not finished.
  // Holds its norms and what the reconstructor reported.
  struct Block {
    Vectors vectors;
    Json report;
  };
  bool has_block(uint64_t block) const;
  void store_block(uint64_t block, const Block& entry);
  Block load_block(uint64_t block) const;  // damage is ErrorKind::integrity

  const std::filesystem::path& folder() const noexcept { return folder_; }
  void remove();  // after the output is complete

 private:
  std::filesystem::path path_of(const std::string& unit) const;
  std::filesystem::path path_of(uint64_t block) const;
  std::filesystem::path folder_;
  int lock_ = -1;
};

// Vectors inside a record: header["vectors"] says names and counts, their values stand one after the other in the body.
// read_vectors() begins at `offset` of the body and leaves it behind them; Json::exception where the header is not like
// that, damage as `name` says where the body is too short.
void append_vectors(const Vectors& vectors, Json& header, std::vector<std::span<const std::byte>>& body);
Vectors read_vectors(const Record& record, uint64_t& offset, const std::filesystem::path& path, const RecordName& name);

}  // namespace whit
