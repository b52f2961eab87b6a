"""Compiling functions that only compiled code calls: once, inside of the entry points.

Numba optimizes every function, makes machine code of it, and links its optimized code into its callers, where both
happen again: a function five calls below an entry point is optimized six times. Here only passes on single functions
are run before an entry point is optimized.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering

HOOKS = "_optimize_final_module", "_finalize_final_module"
"""Private methods of Numba's code libraries that :class:`_Lowered` overrides."""


class _Lowered(JITCodeLibrary):  # type: ignore[misc]
    """The code of a function and of its callees, which is linked into that of its callers."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    """Lowering to code that callers link, and nothing that Python could call."""

    _name = "mnistbench_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower the function, and register its code for callers."""
        state.library = _Lowered(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]._replace(cfunc=object())  # callers find the code by the identity of cfunc
        state.targetctx.insert_user_function(lowered.cfunc, lowered.fndesc, [state.library])
        state["cr"] = lowered
        return True


class InnerCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler, lowering by :class:`_Lowering`."""

    def define_pipelines(self) -> list[Any]:
        """Return the usual passes with another lowering."""
        passes = PassManager("inner")
        for step, description in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            passes.add_pass(_Lowering if step is NativeLowering else step, description)
        passes.finalize()
        return [passes]


def is_supported() -> bool:
    """Whether this version of Numba has what :class:`InnerCompiler` changes."""
    return all(hasattr(JITCodeLibrary, hook) for hook in HOOKS)
