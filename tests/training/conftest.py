from recorded_steps import rehearsed

__all__ = ["rehearsed"]
