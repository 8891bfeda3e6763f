// A live plot over time, by uPlot, in the colours of the page.

import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "../vendor/htm-preact.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

// `data` is [times in seconds, values of the first line, ...]; `lines` are [{label, colour}], the colour a variable of
// style.css; `say` is the plot in words, for who does not see it; `unit` stands beside values; `from` and `to` bound the
// times that are shown.
export function Plot({ title, say, data, lines, unit = "", height = 160, from, to }) {
  const place = useRef(null);
  const plot = useRef(null);
  const shown = useRef(null);
  shown.current = { data, from, to };
  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(place.current, lines, unit, height), shown.current.data, place.current);
      draw(plot.current, shown.current);
    };
    const sized = new ResizeObserver(([{ contentRect }]) => {
      plot.current?.setSize({ width: Math.max(1, contentRect.width), height });
    });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    make();
    sized.observe(place.current);
    dark.addEventListener("change", make);
    addEventListener("themechange", make);
    return () => {
      sized.disconnect();
      dark.removeEventListener("change", make);
      removeEventListener("themechange", make);
      plot.current.destroy();
      plot.current = null;
    };
  }, [height, unit]);
  useEffect(() => draw(plot.current, shown.current), [data, from, to]);
  return html`
    <figure class="plot">
      <figcaption>
        ${title}
        ${lines.length > 1 && lines.map(({ label, colour }) => html`<span key=${label} class="key ${colour}">${label}</span>`)}
      </figcaption>
      <div ref=${place} role="img" aria-label=${`${title}: ${say}`}></div>
    </figure>
  `;
}

function draw(plot, { data, from, to }) {
  plot.setData(data, false);
  plot.setScale("x", { min: from, max: to });
}

function options(place, lines, unit, height) {
  const ink = colourOf(place, "quiet");
  const grid = { stroke: colourOf(place, "line"), width: 1 };
  const axis = { stroke: ink, grid, ticks: grid, font: "11px system-ui, sans-serif" };
  return {
    width: Math.max(1, place.clientWidth),
    height,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { auto: false }, y: { range: (_, __, most) => [0, Math.max(most ?? 0, 1) * 1.1] } },
    axes: [{ ...axis, size: 28, values: (_, times) => times.map((seconds) => clock.format(seconds * 1_000)) }, { ...axis, size: 56, values: (_, values) => values.map((value) => `${value}${unit}`) }],
    series: [
      {},
      ...lines.map(({ label, colour }) => ({
        label,
        stroke: colourOf(place, colour),
        width: 1.5,
        points: { show: false },
        spanGaps: false,
      })),
    ],
  };
}

// A canvas knows no variables: what colour this one is now.
function colourOf(place, name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  place.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
