# docs/methods.md is what the program prints.
execute_process(COMMAND ${WHIT} methods list --markdown OUTPUT_VARIABLE printed RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "whit methods list --markdown: exit ${status}")
endif()
file(READ ${PAGE} stored)
if(NOT printed STREQUAL stored)
  message(FATAL_ERROR "docs/methods.md is not what methods.def says. Make it anew:\n"
                      "  ${WHIT} methods list --markdown > docs/methods.md")
endif()
