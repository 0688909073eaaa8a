"""The report of ``inspection.inspect`` as text."""
BAR = 40  # characters of the longest bar


def inspection_text(report, class_names=None, most=20):
    """Lines of text.

    Args:
        class_names: of the classes, by number; None: numbers.
        most: how many suspicious samples to list.
    """
    lines = [f"{report['file']}{' ' + report['split'] if report['split'] else ''}: samples {report['samples']}"
             + (f", {report['samples'] - report['readable']} of them cannot be used"
                if report["readable"] < report["samples"] else "")]
    if report["readable"]:
        lines += _form(report) + _lengths(report["lengths"]) + _classes(report["classes"], class_names)
        lines += _table("values", ("coordinate", "min", "mean", "std", "max"), [
            (row["coordinate"], *(f"{row[key]:.4g}" for key in ("min", "mean", "std", "max")))
            for row in report["ranges"]])
        lines += _joints(report)
    lines += _table("splits", ("split", "samples", "classes"), [
        (row["split"], row["samples"], row["classes"]) for row in report["splits"]])
    suspicious = report["suspicious"]
    lines += ["", f"suspicious samples: {len(suspicious) or 'none'}"]
    lines += [f"  {item['name']}: {item['problem']}" for item in suspicious[:most]]
    if len(suspicious) > most:
        lines.append(f"  … and {len(suspicious) - most} more: --json FILE lists them all")
    return lines + [f"warning: {text}" for text in report["warnings"]]


def _form(report):
    persons = ", ".join(f"{count} with {number}" for number, count in report["persons"].items())
    lines = [f"skeletons: {report['joints']} joints" +
             (f" (named as in {report['layout']})" if report["layout"] else "") +
             f", {report['coordinates']} coordinates{', with scores' if report['scores'] else ''}, "
             f"{' and '.join(report['types'])}", f"persons: {persons}"]
    pictures = [item for item in report["pictures"] if item["img_shape"]]
    if pictures:
        shown = ", ".join(f"{item['samples']} of {item['img_shape'][1]:g} x {item['img_shape'][0]:g}"
                          for item in pictures[:5])
        lines.append(f"pictures: {shown}{f' and {len(pictures) - 5} other sizes' if len(pictures) > 5 else ''}")
    return lines


def _lengths(lengths):
    most = max(count for *_, count in lengths["histogram"])
    lines = ["", f"frames: {lengths['min']} to {lengths['max']}, median {lengths['median']:g}"]
    if lengths["min"] == lengths["max"]:
        return lines
    return lines + [f"  {first:5d} – {last:5d}  {count:6d}  {'█' * round(BAR * count / most)}".rstrip()
                    for first, last, count in lengths["histogram"]]


def _classes(classes, names):
    most = max(row["samples"] for row in classes)
    shown = [(_class(row["class"], names), row["samples"], "█" * round(BAR * row["samples"] / most))
             for row in classes]
    return _table(f"classes: {len(classes)}", ("class", "samples", ""), shown)


def _class(label, names):
    if label is None:
        return "no label"
    return f"{label} {names[label]}" if names and label < len(names) else label


def _joints(report):
    if not any(row["missing"] or row["low_score"] for row in report["missing"]):
        return ["", "joints: none is missing where its person is seen"]
    rows = [(row["joint"], row["name"] or "", f"{row['missing']:.2%}",
             "" if row["low_score"] is None else f"{row['low_score']:.2%}") for row in report["missing"]]
    return _table("joints, of the frames in which their person is seen", ("joint", "name", "missing",
                  "low score" if report["scores"] else ""), rows)


def _table(title, header, rows):
    """A title and aligned columns; nothing where there are no rows."""
    if not rows:
        return []
    cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(row[c]) for row in cells) for c in range(len(header))]
    numeric = [all(_is_figure(row[c]) for row in cells[1:]) for c in range(len(header))]
    return ["", title] + [("  " + "  ".join(
        cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric))).rstrip()
        for row in cells]


def _is_figure(cell):
    return cell.lstrip("-").replace(".", "").replace("%", "").isdigit()
