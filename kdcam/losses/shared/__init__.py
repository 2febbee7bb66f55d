"""What several losses share: margins, centres, memories, maps of stages, logits."""
